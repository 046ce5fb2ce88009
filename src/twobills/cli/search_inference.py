"""``twobills search inference``: the best ways to serve a model on given chips."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from twobills.cli.options import AsJson, CatalogFile
from twobills.specs.engine import Engine


class ServingObjective(StrEnum):
    """As in ``plan.serving_search``, which loads NumPy."""

    DOLLARS = "dollars"
    THROUGHPUT = "throughput"
    LATENCY = "latency"


def inference(
    model: Annotated[str, typer.Argument(help="A catalogue name, a config.json or a model folder.")],
    chips: Annotated[str, typer.Option(help="NAME:COUNT, several with commas, like h200:8,b200:8.")],
    prompt_tokens: Annotated[float, typer.Option(help="Tokens of a prompt, at the mean.")],
    answer_tokens: Annotated[float, typer.Option(help="Tokens of an answer, at the mean.")],
    ttft: Annotated[str | None, typer.Option(help="At most to the first token: 1000ms, or seconds.")] = None,
    tpot: Annotated[str | None, typer.Option(help="At most for each token after it: 20ms, or seconds.")] = None,
    requests_per_s: Annotated[
        float | None, typer.Option(help="Requests that come a second: as few chips as they take.")
    ] = None,
    cached: Annotated[float, typer.Option(help="Share of the prompt tokens found in the prefix cache.")] = 0.0,
    weights: Annotated[str, typer.Option(help="any, or some of bf16, fp8, fp4, int8, int4 with commas.")] = "any",
    kv: Annotated[str, typer.Option(help="Of the cache: any, or some of bf16, fp8.")] = "any",
    engine: Annotated[Engine, typer.Option(help="Class of serving engine.")] = Engine.SERVER,
    objective: Annotated[ServingObjective, typer.Option(help="What the ranking goes by.")] = ServingObjective.DOLLARS,
    top: Annotated[int, typer.Option(min=1, help="Rows of each table.")] = 10,
    usd_per_chip_hour: Annotated[
        str | None, typer.Option(help="What you pay: 2.5 for all, or NAME=2.5, several with commas.")
    ] = None,
    network_gbps: Annotated[
        float | None, typer.Option(min=0.001, help="Network of one chip, Gbit/s; else its usual server's.")
    ] = None,
    catalog_file: CatalogFile = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the fronts: a .png or .svg file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rank every way to serve on the chips you could have: dollars, tokens per second, latency."""
    from twobills.cli.screen import err, print_json, print_table, say
    from twobills.errors import RequestError
    from twobills.flows.search_inference import ServingSearchRequest, check_targets, search
    from twobills.plan import serving_search
    from twobills.report import serving_search_tables as tables

    if plot is not None and plot.suffix not in {".png", ".svg"}:
        raise RequestError(f"--plot {plot}: must end in .png or .svg")
    found = search(
        ServingSearchRequest(
            model=model,
            chips=chips,
            prompt_tokens=prompt_tokens,
            answer_tokens=answer_tokens,
            ttft=ttft,
            tpot=tpot,
            requests_per_s=requests_per_s,
            cached_frac=cached,
            weights=weights,
            kv=kv,
            engine=engine,
            objective=serving_search.ServingObjective(objective.value),
            top=top,
            usd_per_chip_hour=usd_per_chip_hour,
            network_gbps=network_gbps,
            catalog_file=catalog_file,
        )
    )
    if plot is not None:
        from twobills.report.figures.serving_front import serving_front

        plot.write_bytes(serving_front(found, plot.suffix))
        err.print(f"drawn: {plot}", markup=False)
    if as_json:
        print_json(found)
        check_targets(found)
        return
    say(tables.serving_search_sentence(found))
    if len(found["best"]) > 1:
        print_table(tables.best_table(found))
    print_table(tables.ranking_table(found))
    print_table(tables.front_table(found, top))
    say(tables.LEGEND)
    for refused in found["refused"]:
        say(f"Left out: {refused['reason']}.")
    say(f"Assumed: {'; '.join(found['assumed'])}.")
    say(f"{found['n_candidates']:,} ways in {found['search_s']:.2f} s. The first, in vLLM:")
    for command in found["commands"]:
        print(f"    {command}")
    if found["command_notes"]:
        say(f"({'; '.join(found['command_notes'])}.)")
    say("Its whole bill:")
    print(f"    {found['plan_command']}")
    check_targets(found)
