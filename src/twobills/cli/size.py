"""``twobills size``: how big and how many tokens, given a quality and a life of answers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from twobills.cli.options import AsJson, CatalogFile
from twobills.specs.engine import Engine

_QUALITY, _DEMAND, _OTHERWISE, _MONEY = "How good", "How much it will answer", "The same otherwise", "Chips and money"


def _option(words: str, panel: str) -> Any:
    return typer.Option(help=words, rich_help_panel=panel)


def size(
    train_chips: Annotated[str, _option("NAME or NAME:COUNT, several kinds with commas.", _MONEY)],
    serve_chips: Annotated[str, _option("NAME, or NAME:COUNT for one machine; several with commas.", _MONEY)],
    quality_of: Annotated[str | None, _option("As good as this model.", _QUALITY)] = None,
    tokens: Annotated[str | None, _option("That it was trained on, if not in the catalogue.", _QUALITY)] = None,
    quality_of_params: Annotated[
        str | None, _option("As good as the compute-optimal model of this size, like 13e9.", _QUALITY)
    ] = None,
    loss: Annotated[str | None, _option("Nats per token of the law's own data.", _QUALITY)] = None,
    law: Annotated[str, _option("Of `laws list`, or a file of `laws fit --json`.", _QUALITY)] = "besiroglu-2024",
    answers: Annotated[str, _option("Over its whole life, like 1e12.", _DEMAND)] = "0",
    prompt_tokens: Annotated[float, _option("Tokens per prompt.", _DEMAND)] = 1000,
    answer_tokens: Annotated[float, _option("Tokens per answer.", _DEMAND)] = 300,
    years: Annotated[float | None, _option("In service. [default: 2]", _DEMAND)] = None,
    peak_over_mean: Annotated[float | None, _option("Busiest hours over the day's mean traffic.", _DEMAND)] = None,
    fill: Annotated[str | None, _option("How full machines may run. [default: 80%]", _DEMAND)] = None,
    params: Annotated[str | None, _option("Price this size beside the best.", _OTHERWISE)] = None,
    unique_tokens: Annotated[str | None, _option("Different tokens there are; more are repeats.", _OTHERWISE)] = None,
    teacher: Annotated[str | None, _option("An existing model to distil from. [default: assumed]", _OTHERWISE)] = None,
    teacher_tokens: Annotated[str | None, _option("That it was trained on.", _OTHERWISE)] = None,
    samples: Annotated[int, _option("At most so many samples an answer are tried.", _OTHERWISE)] = 4,
    coverage_law: Annotated[str, _option("What samples are worth.", _OTHERWISE)] = "brown-2024-swe-bench-lite",
    train_days: Annotated[float, _option("A run may take, where no COUNT is given.", _MONEY)] = 90,
    kv: Annotated[str, _option("Format of the cache.", _MONEY)] = "bf16",
    engine: Annotated[Engine, _option("Class of serving engine.", _MONEY)] = Engine.SERVER,
    usd_per_chip_hour: Annotated[
        str | None, _option("What you pay: 2.5 for all, or NAME=2.5, several with commas.", _MONEY)
    ] = None,
    price_decline: Annotated[str | None, _option("Chips get cheaper, a year, like 30%.", _MONEY)] = None,
    discount: Annotated[str | None, _option("Later dollars count less, a year.", _MONEY)] = None,
    catalog_file: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """How big and how many tokens: the least of both bills for a quality and a life of answers, and why."""
    options = dict(locals())
    from twobills.cli.screen import print_json, print_table, say
    from twobills.flows.size import size as find_size
    from twobills.flows.size_request import SizeRequest
    from twobills.report import size_tables as tables

    del options["as_json"]
    found = find_size(SizeRequest(**options))
    if as_json:
        print_json(found)
        return
    say(tables.size_sentence(found))
    print_table(tables.sizes_table(found))
    for words in found["disagreement"]["words"]:
        say(f"{words[0].upper()}{words[1:]}.")
    print_table(tables.options_table(found))
    say(tables.cheapest_sentence(found))
    if outside := tables.outside_sentence(found):
        say(outside)
    for words in tables.pays_sentences(found):
        say(words)
    say(tables.flat_sentence(found))
    for refused in found["refused"][:3]:
        say(f"Left out: {refused}.")
    say(f"Assumed: {'; '.join(found['assumed'])}.")
