"""``twobills search``: the best ways to do a job on given chips."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from twobills.cli.options import AsJson, CatalogFile
from twobills.cli.search_inference import inference
from twobills.specs.parallel import Stack

search_app = typer.Typer(no_args_is_help=True, help="The best ways to do a job on given chips: training, inference.")
search_app.command()(inference)


Given = Annotated[int | None, typer.Option(min=1, help="Leave it free, or fix it.")]


class Format(StrEnum):
    """Number formats to look at."""

    ANY = "any"
    BF16 = "bf16"
    FP8 = "fp8"


class Level(StrEnum):
    """``specs.parallel.Recompute`` in words."""

    NONE = "none"
    SELECTIVE = "selective"
    FULL = "full"


class Objective(StrEnum):
    """As in ``plan.search``, which loads NumPy."""

    TIME = "time"
    DOLLARS = "dollars"
    MEMORY = "memory"


@search_app.command()
def training(
    chips: Annotated[str, typer.Option(help="NAME:COUNT, several with commas, like h100-sxm:1024,b200:512.")],
    tokens: Annotated[str, typer.Option(help="Tokens to train on, like 15T or 2e9.")],
    model: Annotated[
        str | None, typer.Argument(help="A catalogue name, a config.json or a model folder.", show_default=False)
    ] = None,
    params: Annotated[str | None, typer.Option(help="Instead of MODEL: a Llama of this size, like 8e9.")] = None,
    batch_tokens: Annotated[str | None, typer.Option(help="Tokens per step, like 4M; met within 5 %.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Sequences per step, exactly.")] = None,
    seq_len: Annotated[int | None, typer.Option(min=1, help="Tokens of a sequence.")] = None,
    dtype: Annotated[Format, typer.Option(help="Number formats to look at.")] = Format.ANY,
    tp: Given = None,
    pp: Given = None,
    cp: Given = None,
    ep: Given = None,
    zero: Annotated[int | None, typer.Option(min=0, max=3, help="ZeRO stage.")] = None,
    shard: Annotated[int | None, typer.Option(min=1, help="Chips that share out one copy (HSDP).")] = None,
    interleave: Given = None,
    micro_batch: Given = None,
    recompute: Annotated[Level | None, typer.Option(help="What is computed again.")] = None,
    stack: Annotated[Stack, typer.Option(help="Software, by what it fuses and hides.")] = Stack.OVERLAPPED,
    network_gbps: Annotated[
        float | None, typer.Option(min=0.001, help="Network of one chip, Gbit/s; else its usual server's.")
    ] = None,
    objective: Annotated[Objective, typer.Option(help="What the ranking goes by.")] = Objective.TIME,
    top: Annotated[int, typer.Option(min=1, help="Rows of each table.")] = 10,
    max_days: Annotated[float | None, typer.Option(min=0.001, help="Rank only what ends in time.")] = None,
    usd_per_chip_hour: Annotated[
        str | None, typer.Option(help="What you pay: 2.5 for all, or NAME=2.5, several with commas.")
    ] = None,
    owned: Annotated[
        bool, typer.Option("--owned", help="The chips are bought, not rented: capital written off, power, hosting.")
    ] = False,
    pue: Annotated[float | None, typer.Option(help="Facility / IT power of owned chips, 1 to 10.")] = None,
    mtbf_hours: Annotated[float | None, typer.Option(help="Hours one chip runs between failures.")] = None,
    catalog_file: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Rank every valid parallel plan on the chips you could have: time, dollars, memory."""
    from twobills.cli.screen import print_json, print_table, say
    from twobills.flows.search_training import SearchRequest, check_deadline, search
    from twobills.plan import search as plan_search
    from twobills.plan.space import Fixed
    from twobills.report import search_tables
    from twobills.specs.parallel import Recompute, Zero

    fixed = Fixed(
        tp=tp,
        pp=pp,
        cp=cp,
        ep=ep,
        zero=None if zero is None else Zero(zero),
        shard=shard,
        interleave=interleave,
        micro_batch=micro_batch,
        recompute=None if recompute is None else Recompute[recompute.name],
    )
    found = search(
        SearchRequest(
            model=model,
            chips=chips,
            tokens=tokens,
            params=params,
            batch_tokens=batch_tokens,
            batch_size=batch_size,
            seq_len=seq_len,
            dtype=dtype.value,
            stack=stack,
            objective=plan_search.Objective(objective.value),
            fixed=fixed,
            top=top,
            max_days=max_days,
            usd_per_chip_hour=usd_per_chip_hour,
            owned=owned,
            pue=pue,
            mtbf_hours=mtbf_hours,
            network_gbps=network_gbps,
            catalog_file=catalog_file,
        )
    )
    if as_json:
        print_json(found)
        check_deadline(found)
        return
    say(search_tables.search_sentence(found))
    if len(found["best"]) > 1:
        print_table(search_tables.best_table(found))
    print_table(search_tables.ranking_table(found))
    print_table(search_tables.front_table(found, top))
    say(search_tables.legend(found))
    for reason in search_tables.refusals(found):
        say(f"Left out: {reason}.")
    say(f"Assumed: {'; '.join(found['assumed'])}.")
    say(f"{found['n_plans']:,} plans in {found['search_s']:.2f} s. The first, with its whole bill:")
    print(f"    {found['command']}")
    check_deadline(found)
