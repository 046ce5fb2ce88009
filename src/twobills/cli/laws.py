"""``twobills laws``: how good for how much. Fit your runs, or take published laws with their uncertainty."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twobills.cli.options import AsJson, CatalogFile, LedgerPath
from twobills.cli.sweep import sweep_laws

laws_app = typer.Typer(no_args_is_help=True, help="How good for how much: list, fit, optimum, audit, sweep.")
laws_app.command("sweep")(sweep_laws)


@laws_app.command("list")
def list_laws(as_json: AsJson = False) -> None:
    """The published laws: form, what N counts, whether the constants were read in the source."""
    from twobills.cli.screen import print_json, print_table, say
    from twobills.flows.laws_questions import laws_document
    from twobills.report.laws_tables import laws_table

    document = laws_document()
    if as_json:
        print_json(document)
        return
    say(f"{len(document['laws'])} published laws; --json has their constants, ranges and notes.")
    print_table(laws_table(document["laws"]))


@laws_app.command("fit")
def fit_laws(
    runs: Annotated[str, typer.Argument(help="A CSV file of runs (sizes, tokens or FLOPs, losses), or: ledger.")],
    ledger: LedgerPath,
    columns: Annotated[
        str | None,
        typer.Option(help="Which columns: params=NAME,tokens=NAME,flops=NAME,loss=NAME; two of the first three."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Of the ledger: only runs on this data set.")] = None,
    vocab_size: Annotated[int | None, typer.Option(help="Of the ledger: only runs with this vocabulary.")] = None,
    drop_worst: Annotated[int, typer.Option(help="Leave out the runs with the highest losses, so many.")] = 0,
    bootstraps: Annotated[
        int, typer.Option(help="Refits of the runs drawn again, for standard errors; 0 for none.")
    ] = 4000,
    seed: Annotated[int, typer.Option(help="Of the bootstraps.")] = 42,
    compute: Annotated[str | None, typer.Option(help="Budget in FLOPs at which the optimum is told.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Also write the plots into this folder, as .svg and .png.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit L = E + A/N^alpha + B/D^beta to runs, three ways, with errors and a verdict (needs SciPy)."""
    from twobills.cli.screen import err, print_json, print_table, say
    from twobills.errors import RequestError
    from twobills.flows.asked import quantity
    from twobills.flows.laws_fit import FitRequest, fit_document, fit_runs
    from twobills.flows.laws_runs import LEDGER, csv_runs, ledger_runs
    from twobills.ledger.store import Ledger
    from twobills.report import laws_tables as tables

    for option, given in (("--data", data), ("--vocab-size", vocab_size)):
        if runs != LEDGER and given is not None:
            raise RequestError(f"{option}: chooses among the ledger's runs; a CSV file is taken as it is")
    asked = FitRequest(
        drop_worst=drop_worst,
        n_bootstraps=bootstraps,
        seed=seed,
        budget_flops=quantity("--compute", compute, 1e35) if compute else None,
    )
    table = ledger_runs(Ledger(ledger), data, vocab_size) if runs == LEDGER else csv_runs(Path(runs), columns)
    found = fit_runs(table, asked)
    document = fit_document(found, asked, runs)
    if plots is not None:
        from twobills.flows.laws_plots import write_plots

        for path in write_plots(found, plots):
            err.print(f"wrote {path}")
    if as_json:
        print_json(document)
        return
    say(tables.fit_sentence(document))
    print_table(tables.parameters_table(document))
    print_table(tables.approaches_table(document))
    print_table(tables.against_table(document))
    for words in document["verdict"]["runs_to_add"]:
        say(f"To add: {words}.")


@laws_app.command("optimum")
def optimum_of(
    compute: Annotated[str | None, typer.Option(help="Training budget in FLOPs, like 1e21.")] = None,
    loss: Annotated[str | None, typer.Option(help="Loss to reach, in nats per token of the law's tokenizer.")] = None,
    params: Annotated[str | None, typer.Option(help="With --loss: only this size, however long it takes.")] = None,
    law: Annotated[
        str, typer.Option(help="A law of `laws list`, or a file that `laws fit --json` wrote.")
    ] = "besiroglu-2024",
    as_json: AsJson = False,
) -> None:
    """The best size and data for a budget, or the least compute for a loss, with intervals."""
    from twobills.cli.screen import print_json, print_table, say
    from twobills.flows.laws_questions import optimum_document
    from twobills.report.laws_tables import optimum_sentence, optimum_table

    document = optimum_document(law=law, compute=compute, loss=loss, params=params)
    if as_json:
        print_json(document)
        return
    say(optimum_sentence(document))
    print_table(optimum_table(document))


@laws_app.command("audit")
def audit_models(
    models: Annotated[
        list[str] | None, typer.Argument(help="Models; none: all whose training tokens are known.")
    ] = None,
    law: Annotated[list[str] | None, typer.Option(help="Laws to judge by; the first one's figures are shown.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Tokens that the one MODEL was trained on.")] = None,
    params: Annotated[str | None, typer.Option(help="In place of a MODEL: its parameters, with --tokens.")] = None,
    catalog_file: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Was this model too big for its data, and what does that cost or save?"""
    from twobills.cli.screen import print_json, print_table, say
    from twobills.flows.laws_questions import audit_document
    from twobills.report.laws_tables import audit_sentence, audit_table

    document = audit_document(models or [], laws=law or [], tokens=tokens, params=params, catalog_file=catalog_file)
    if as_json:
        print_json(document)
        return
    say(audit_sentence(document["models"]))
    print_table(audit_table(document["models"]))
