"""``twobills chips``: the chips of the catalogue and what an hour of each costs."""

from __future__ import annotations

from typing import Annotated

import typer

from twobills.cli.options import AsJson, CatalogFile
from twobills.errors import RequestError

chips_app = typer.Typer(
    no_args_is_help=True,
    help="Chips and what an hour of each costs: list, show. Your own: --catalog FILE, as in examples/chip.toml.",
)


@chips_app.command("list")
def list_chips(
    role: Annotated[str | None, typer.Option(help="Only those made for: training, inference or both.")] = None,
    family: Annotated[str | None, typer.Option(help="Only those of one architecture, like hopper or tpu.")] = None,
    catalog_file: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """All chips: peaks, memory, links, power, the default price of an hour."""
    from twobills.cli.screen import print_json, print_table, say
    from twobills.report.chip_documents import chip_document
    from twobills.report.chip_tables import chips_sentence, chips_table, legend
    from twobills.report.documents import SCHEMA
    from twobills.specs import catalog

    rows, prices = catalog.chips(catalog_file), catalog.prices(catalog_file)
    _check("--role", role, {chip.role.value for chip in rows.values()})
    _check("--family", family, {chip.family for chip in rows.values() if chip.family})
    documents = [
        chip_document(chip, prices.get(name, ()))
        for name, chip in rows.items()
        if role in (None, chip.role) and family in (None, chip.family)
    ]
    if as_json:
        print_json({"schema": SCHEMA, "chips": documents})
        return
    say(chips_sentence(documents))
    if not documents:
        return
    table = chips_table(documents)
    print_table(table)
    if marks := legend(table):
        say(f"{marks}. `twobills chips show NAME` has the sources.")


@chips_app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(help="A chip, any spelling: h100 means h100-sxm, a100 means a100-sxm-80gb."),
    ],
    catalog_file: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """One chip: every figure and how it is known, every price and its kind, provider and date."""
    from twobills.cli.screen import print_json, print_table, say
    from twobills.report.chip_documents import chip_document
    from twobills.report.chip_tables import chip_sentence, facts_table, legend, prices_table
    from twobills.report.documents import SCHEMA
    from twobills.specs import catalog

    chip = catalog.chip(name, catalog_file)
    document = chip_document(chip, catalog.chip_prices(chip.name, catalog_file))
    if as_json:
        print_json({"schema": SCHEMA, **document})
        return
    say(chip_sentence(document))
    tables = [facts_table(document), *([prices_table(document)] if document["prices"] else [])]
    for table in tables:
        print_table(table)
        if marks := legend(table):
            say(f"{marks}.")
    say(f"From {chip.cited_source}, as of {chip.as_of}." + (f" Note: {chip.note}." if chip.note else ""))


def _check(option: str, value: str | None, known: set[str]) -> None:
    if value is not None and value not in known:
        raise RequestError(f"{option} {value!r}: must be one of {', '.join(sorted(known))}")
