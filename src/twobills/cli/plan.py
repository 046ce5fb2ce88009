"""``twobills plan``: both bills over a life and the day on which the second overtakes the first; or one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from twobills.cli.options import AsJson, CatalogFile, ChipHourPrice, LedgerPath
from twobills.cli.plan_inference import plan_inference
from twobills.cli.plan_training import plan_training
from twobills.cli.runtime import restart_with_settings
from twobills.specs.plan_file import PlanSpec

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
plan_app.command("inference")(plan_inference)
_LOAD, _LIFE, _MONEY, _FILES = "Traffic and how it is served", "The life", "Money", "Plans and pages"


def _option(words: str, panel: str, *names: str) -> Any:
    return typer.Option(*names, help=words, rich_help_panel=panel)


@plan_app.command(DEFAULT)
def plan(
    model: Annotated[str, typer.Argument(help="A catalogue name, a config.json, a model folder or a saved plan.toml.")],
    ledger: LedgerPath,
    tokens: Annotated[str | None, typer.Option(help="Tokens to train on, like 15T or 2e9.")] = None,
    chips: Annotated[
        str | None, typer.Option(help="NAME:COUNT for both jobs (a few of them serve), or `this`: measured.")
    ] = None,
    train_chips: Annotated[str | None, typer.Option(help="Chips to train on, like h100-sxm:8192.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Sequences per training step.")] = None,
    seq_len: Annotated[int | None, typer.Option(help="Training sequence length, tokens.")] = None,
    train_dtype: Annotated[str | None, typer.Option(help="bf16 (any 16-bit format) or fp8.")] = None,
    serve_chips: Annotated[str | None, _option("One serving machine, like h200:8; as many as it takes.", _LOAD)] = None,
    requests_per_day: Annotated[str | None, _option("At launch, like 1e7 or 10M.", _LOAD)] = None,
    prompt_tokens: Annotated[int | None, _option("Tokens per prompt. [default: 1000]", _LOAD)] = None,
    answer_tokens: Annotated[int | None, _option("Tokens per answer. [default: 300]", _LOAD)] = None,
    cached: Annotated[str | None, _option("Share of prompts found in the cache, like 30%.", _LOAD)] = None,
    concurrency: Annotated[int | None, _option("Requests at once, with --chips this.", _LOAD)] = None,
    weights: Annotated[str | None, _option("Format of the served weights: bf16, fp8, int4, ...", _LOAD)] = None,
    kv: Annotated[str | None, _option("Format of the cache.", _LOAD)] = None,
    engine: Annotated[str | None, _option("tensorrt, server, native, single or generic.", _LOAD)] = None,
    growth: Annotated[str | None, _option("Of traffic, a month, like 5%.", _LIFE)] = None,
    growth_months: Annotated[float | None, _option("For so long, then --decline.", _LIFE)] = None,
    decline: Annotated[str | None, _option("Of traffic, a month, after the growth.", _LIFE)] = None,
    traffic: Annotated[Path | None, _option("A CSV file instead: day,requests_per_day.", _LIFE)] = None,
    traffic_factor: Annotated[float | None, _option("How well traffic is known: 2 is within x2.", _LIFE)] = None,
    years: Annotated[float | None, _option("In service. [default: 2]", _LIFE)] = None,
    version_months: Annotated[float | None, _option("A newer version every so often trains again.", _LIFE)] = None,
    peak_over_mean: Annotated[float | None, _option("Busiest hours over the day's mean traffic.", _LIFE)] = None,
    fill: Annotated[str | None, _option("How full machines may run. [default: 80%]", _LIFE)] = None,
    usd_per_chip_hour: ChipHourPrice = None,
    train_usd_per_chip_hour: Annotated[float | None, _option("The same for training only.", _MONEY)] = None,
    serve_usd_per_chip_hour: Annotated[float | None, _option("The same for serving only.", _MONEY)] = None,
    owned: Annotated[bool | None, _option("The chips are bought.", _MONEY, "--owned/--rented")] = None,
    price_decline: Annotated[str | None, _option("Chips get cheaper, a year, like 30%.", _MONEY)] = None,
    discount: Annotated[str | None, _option("Later dollars count less, a year.", _MONEY)] = None,
    shave: Annotated[str | None, _option("What so much off each answer is worth. [default: 1%]", _MONEY)] = None,
    seed: Annotated[int | None, _option("Of the Monte Carlo.", _FILES)] = None,
    save: Annotated[Path | None, _option("Write the plan to this TOML file.", _FILES)] = None,
    diff: Annotated[Path | None, _option("Compare with another saved plan.", _FILES)] = None,
    report: Annotated[Path | None, _option("Write a page of it all to this HTML file.", _FILES)] = None,
    catalog_file: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Predict both bills of a model over its life: when the second overtakes the first, and what that hangs on."""
    options = dict(locals())
    from twobills.cli.plan_screen import show_difference, show_plan
    from twobills.cli.screen import err
    from twobills.flows.plan_request import asked_plan, save_plan

    asked = asked_plan(model, options)
    document = _document(asked, ledger)
    if save is not None:
        save_plan(asked, save)
        err.print(f"wrote {save}")
    if report is not None:
        from twobills.flows.plan_report import write_report

        write_report(document, report)
        err.print(f"wrote {report}")
    if diff is None:
        show_plan(document, as_json=as_json)
    else:
        other = _document(asked_plan(str(diff), {}), ledger)
        show_difference(document, other, (model, str(diff)), as_json=as_json)


def _document(asked: PlanSpec, ledger: Path) -> dict[str, Any]:
    from twobills.flows.plan import plan_both

    if not asked.on_this_machine:
        return plan_both(asked)
    restart_with_settings()
    from twobills.flows.machine import find_machine, measure_machine
    from twobills.ledger.store import Ledger

    found = find_machine(asked.usd_per_chip_hour)
    measured = measure_machine(found, Ledger(ledger) if ledger.exists() else None)
    return plan_both(asked, measured.spec, measured.dtype)


@plan_app.command("table")
def table(
    file: Annotated[Path | None, typer.Argument(help="Also write the page to this Markdown file.")] = None,
    chips: Annotated[str, typer.Option(help="What serves them all.")] = "h200",
    prompt_tokens: Annotated[int, typer.Option(help="Tokens per prompt.")] = 1000,
    answer_tokens: Annotated[int, typer.Option(help="Tokens per answer.")] = 300,
    as_json: AsJson = False,
) -> None:
    """Both bills of well-known models: from what traffic on using one costs more than building it."""
    from twobills.cli.screen import err, print_json, print_table, say
    from twobills.flows.two_bills import two_bills_document, write_two_bills
    from twobills.report import two_bills_page as page

    document = two_bills_document(chips, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens)
    if file is not None:
        write_two_bills(document, file)
        err.print(f"wrote {file}")
    if as_json:
        print_json(document)
        return
    say(page.two_bills_sentence(document))
    print_table(page.models_table(document))
    print_table(page.crossing_table(document))
