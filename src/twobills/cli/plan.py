"""``twobills plan``: both bills and the day on which the second overtakes the first; or one of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from twobills.cli.options import AsJson, CatalogFile, ChipHourPrice, LedgerPath
from twobills.cli.plan_training import plan_training
from twobills.cli.runtime import restart_with_settings

DEFAULT = "bills"


class PlanGroup(TyperGroup):
    """``plan MODEL`` is ``plan bills MODEL``: what does not begin with a command of the group is for the default."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments, the default command put before them where none is named."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


plan_app = typer.Typer(
    cls=PlanGroup,
    no_args_is_help=True,
    help="Predict both bills of a model (`plan MODEL ...`, options: `plan bills --help`) or one of them.",
)
plan_app.command("training")(plan_training)


@plan_app.command(DEFAULT)
def plan(
    model: Annotated[str, typer.Argument(help="A catalogue name, a config.json or a model folder.")],
    tokens: Annotated[str, typer.Option(help="Tokens to train on, like 15T or 2e9.")],
    ledger: LedgerPath,
    chips: Annotated[
        str,
        typer.Option(
            help="NAME:COUNT to train on (one of them serves), or `this` to measure this machine.",
        ),
    ] = "h100-sxm",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Sequences per training step.")] = None,
    seq_len: Annotated[int | None, typer.Option(min=1, help="Training sequence length, tokens.")] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens per prompt.")] = 1000,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Tokens per answer.")] = 300,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight at once.")] = 16,
    usd_per_chip_hour: ChipHourPrice = None,
    catalog_file: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Predict both bills of a model, trained on any chips and served on one of them, and where they cross."""
    from twobills.cli.screen import print_json, print_table, say
    from twobills.flows.plan import PlanRequest, plan_both
    from twobills.report import sentences, tables

    request = PlanRequest(
        model=model,
        tokens=tokens,
        chips=chips,
        batch_size=batch_size,
        seq_len=seq_len,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        concurrency=concurrency,
        usd_per_chip_hour=usd_per_chip_hour,
        catalog_file=catalog_file,
    )
    measured = None
    if chips == "this":
        restart_with_settings()
        from twobills.flows.machine import find_machine, measure_machine
        from twobills.ledger.store import Ledger

        measured = measure_machine(find_machine(usd_per_chip_hour), Ledger(ledger) if ledger.exists() else None)
    document = plan_both(request, measured.spec if measured else None, measured.dtype if measured else None)
    if as_json:
        print_json(document)
        return
    say(sentences.plan_sentence(document, rates_of_work=document["chip"]["rates_of_work"]))
    print_table(tables.plan_table(document))
    for job in ("training", "inference"):
        say(sentences.bill_sentence(document[job]["bill"]))
        print_table(tables.bill_table(document[job]["bill"], explain=False))
    say(sentences.life_sentence(document["life"]))
    print_table(tables.life_table(document["life"]))
