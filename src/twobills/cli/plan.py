"""``twobills plan``: both bills and the day on which the second overtakes the first."""

from __future__ import annotations

from typing import Annotated

import typer

from twobills.cli.options import AsJson, ChipHourPrice
from twobills.cli.runtime import restart_with_settings


def plan(
    model: Annotated[
        str,
        typer.Argument(help="A catalogue name, a config.json or a model folder (Llama and Qwen3 shapes)."),
    ],
    tokens: Annotated[str, typer.Option(help="Tokens to train on, like 15T or 2e9.")],
    chips: Annotated[
        str, typer.Option(help="A chip of the catalogue, or `this` to measure this machine.")
    ] = "h100-sxm",
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences per training step.")] = 8,
    seq_len: Annotated[int | None, typer.Option(min=1, help="Training sequence length, tokens.")] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens per prompt.")] = 1000,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Tokens per answer.")] = 300,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight at once.")] = 16,
    usd_per_chip_hour: ChipHourPrice = None,
    as_json: AsJson = False,
) -> None:
    """Predict both bills of a model on one chip, and where they cross."""
    from twobills.cli.screen import print_json, print_table, say
    from twobills.flows.plan import PlanRequest, plan_both
    from twobills.report import sentences, tables

    request = PlanRequest(
        model=model,
        tokens=tokens,
        chip=chips,
        batch_size=batch_size,
        seq_len=seq_len,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        concurrency=concurrency,
        usd_per_chip_hour=usd_per_chip_hour,
    )
    measured = None
    if chips == "this":
        restart_with_settings()
        from twobills.flows.machine import find_machine, measure_machine

        measured = measure_machine(find_machine(usd_per_chip_hour))
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
