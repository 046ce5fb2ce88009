"""``twobills plan training``: the predicted training bill of any model on any chips."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from twobills.cli.options import AsJson, CatalogFile, ChipHourPrice
from twobills.specs.dtype import DType
from twobills.specs.parallel import Recompute, Stack, Zero
from twobills.specs.prices import PriceKind
from twobills.specs.run import JobKind

_PLAN, _MONEY = "Parallel plan (what is not given is chosen)", "Money, power and failures"


def _degree(words: str) -> Any:
    """An option for one choice of the parallel plan."""
    return typer.Option(min=1, help=words, rich_help_panel=_PLAN)


def plan_training(
    tokens: Annotated[str, typer.Option(help="Tokens to train on, like 15.6T or 2e9.")],
    model: Annotated[str | None, typer.Argument(help="A catalogue name, a config.json or a model folder.")] = None,
    params: Annotated[str | None, typer.Option(help="A size like 8e9 instead: Llama 3's proportions.")] = None,
    chips: Annotated[str, typer.Option(help="Chips as NAME:COUNT, like h100-sxm:16384.")] = "h100-sxm:8",
    job: Annotated[JobKind, typer.Option(help="What is done to the model.")] = JobKind.PRETRAIN,
    batch_tokens: Annotated[str | None, typer.Option(help="Tokens of a step over all chips, like 16M.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="The same in sequences.")] = None,
    seq_len: Annotated[int | None, typer.Option(min=1, help="Sequence length, tokens.")] = None,
    dtype: Annotated[str, typer.Option(help="bf16 (any 16-bit format) or fp8.")] = "bf16",
    lora_rank: Annotated[int | None, typer.Option(min=1, help="Rank of the adapters of a lora job.")] = None,
    teacher: Annotated[str | None, typer.Option(help="The model that a distill job learns from.")] = None,
    stack: Annotated[
        Stack, typer.Option(help="How well the software fuses and hides: early is 2022's, overlapped the best labs'.")
    ] = Stack.OVERLAPPED,
    tp: Annotated[int | None, _degree("Tensor parallelism, with sequence parallelism.")] = None,
    pp: Annotated[int | None, _degree("Pipeline stages.")] = None,
    cp: Annotated[int | None, _degree("Context parallelism.")] = None,
    ep: Annotated[int | None, _degree("Expert parallelism, within dp x cp.")] = None,
    dp: Annotated[int | None, _degree("Copies of the model that share the batch.")] = None,
    zero: Annotated[
        int | None, typer.Option(min=0, max=3, help="ZeRO's stage; 3 is FSDP.", rich_help_panel=_PLAN)
    ] = None,
    shard: Annotated[int | None, _degree("Ranks that share out one copy (HSDP); all if not given.")] = None,
    interleave: Annotated[int | None, _degree("Pieces of the model per pipeline stage.")] = None,
    micro_batch: Annotated[int | None, _degree("Sequences that a copy runs at once.")] = None,
    recompute: Annotated[str | None, typer.Option(help="none, selective or full.", rich_help_panel=_PLAN)] = None,
    network_gbps: Annotated[
        float | None, typer.Option(min=0, help="Network of one chip, Gbit/s one way.", rich_help_panel=_PLAN)
    ] = None,
    owned: Annotated[
        bool,
        typer.Option(
            "--owned",
            help="The chips are bought, not rented: capital written off, power, hosting.",
            rich_help_panel=_MONEY,
        ),
    ] = False,
    usd_per_chip_hour: ChipHourPrice = None,
    price_kind: Annotated[
        PriceKind | None,
        typer.Option(help="Which of the known prices (`chips show NAME` lists them).", rich_help_panel=_MONEY),
    ] = None,
    pue: Annotated[float | None, typer.Option(help="Facility / IT power, 1 to 10.", rich_help_panel=_MONEY)] = None,
    mtbf_hours: Annotated[
        float | None,
        typer.Option(
            help="Hours one chip runs between failures; a thousand chips fail a thousand times as often.",
            rich_help_panel=_MONEY,
        ),
    ] = None,
    no_failures: Annotated[
        bool, typer.Option("--no-failures", help="Nothing fails, nothing pauses.", rich_help_panel=_MONEY)
    ] = False,
    evaluate_frac: Annotated[
        float | None, typer.Option(help="Evaluation over training time, like 0.01.", rich_help_panel=_MONEY)
    ] = None,
    catalog_file: CatalogFile = None,
    with_parts: Annotated[
        bool, typer.Option("--explain", help="Show where a step's time goes, and what binds each part.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Predict the training bill of any model on any chips, each figure with its interval."""
    from twobills.cli.screen import print_json, print_table, say
    from twobills.errors import RequestError
    from twobills.flows.plan_training import TrainingRequest
    from twobills.flows.training_bill import plan_training_document
    from twobills.plan.space import Fixed
    from twobills.report import training_sentences as sentences
    from twobills.report import training_tables as tables

    levels = {level.name.lower(): level for level in Recompute}
    if recompute is not None and recompute not in levels:
        raise RequestError(f"--recompute {recompute!r}: must be one of {', '.join(levels)}")
    fixed = Fixed(
        tp=tp,
        pp=pp,
        cp=cp,
        ep=ep,
        zero=None if zero is None else Zero(zero),
        shard=shard,
        interleave=interleave,
        micro_batch=micro_batch,
        recompute=None if recompute is None else levels[recompute],
    )
    request = TrainingRequest(
        model=model,
        params=params,
        tokens=tokens,
        chips=chips,
        job=job,
        batch_tokens=batch_tokens,
        batch_size=batch_size,
        seq_len=seq_len,
        dtype=DType.parse(dtype),
        lora_rank=lora_rank,
        teacher=teacher,
        stack=stack,
        fixed=fixed,
        dp=dp,
        network_gbps=network_gbps,
        owned=owned,
        usd_per_chip_hour=usd_per_chip_hour,
        price_kind=price_kind,
        pue=pue,
        mtbf_hours=mtbf_hours,
        failures=not no_failures,
        evaluation_frac=evaluate_frac,
        catalog_file=catalog_file,
    )
    document = plan_training_document(request, with_parts=with_parts)
    if as_json:
        print_json(document)
        return
    say(sentences.run_sentence(document))
    print_table(tables.run_table(document))
    print_table(tables.run_bill_table(document))
    say(sentences.split_sentence(document))
    if document["training"]["split"]:
        print_table(tables.split_table(document))
    print_table(tables.plan_and_memory_table(document))
    if with_parts:
        say(sentences.step_sentence(document["step_parts"]))
        print_table(tables.step_table(document))
    say(sentences.assumed_sentence(document["assumed"]))
