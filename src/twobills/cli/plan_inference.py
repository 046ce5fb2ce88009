"""``twobills plan inference``: the predicted inference bill of any model on any chips under a load."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from twobills.cli.options import AsJson, CatalogFile, ChipHourPrice
from twobills.specs.engine import Engine
from twobills.specs.prices import PriceKind

_LOAD, _PLAN = "Load", "Parallel plan (what is not given is chosen)"
_GUESS, _MONEY = "Speculative decoding", "Money and power"


def _option(words: str, panel: str) -> Any:
    return typer.Option(help=words, rich_help_panel=panel)


def plan_inference(
    model: Annotated[str, typer.Argument(help="A catalogue name, a config.json or a model folder.")],
    chips: Annotated[str, typer.Option(help="Chips offered, as NAME:COUNT, like h200:8.")] = "h100-sxm:8",
    prompt_tokens: Annotated[float, _option("Tokens of a prompt, at the mean.", _LOAD)] = 1000,
    answer_tokens: Annotated[float, _option("Tokens of an answer, at the mean.", _LOAD)] = 300,
    concurrency: Annotated[float | None, _option("Clients that each wait for their answer.", _LOAD)] = None,
    requests_per_s: Annotated[float | None, _option("Requests that come as they like.", _LOAD)] = None,
    cached: Annotated[float, _option("Share of prompt tokens found in the prefix cache, 0 to 1.", _LOAD)] = 0.0,
    weights: Annotated[str, typer.Option(help="Format of the weights: bf16, fp8, int4, nvfp4, q4_k_m, ...")] = "bf16",
    kv: Annotated[str, typer.Option(help="Format of the keys and values.")] = "bf16",
    engine: Annotated[Engine, typer.Option(help="Class of serving engine.")] = Engine.SERVER,
    tp: Annotated[int | None, _option("Tensor parallelism.", _PLAN)] = None,
    pp: Annotated[int | None, _option("Pipeline stages.", _PLAN)] = None,
    ep: Annotated[int | None, _option("Ranks that share out the experts.", _PLAN)] = None,
    dp: Annotated[int | None, _option("Attention ranks that read different sequences (experts only).", _PLAN)] = None,
    instances: Annotated[int | None, _option("Copies of the model that share the load.", _PLAN)] = None,
    disaggregated: Annotated[
        bool, typer.Option("--disaggregated", help="One pool reads prompts, one writes.", rich_help_panel=_PLAN)
    ] = False,
    prefill_tp: Annotated[int | None, _option("Tensor parallelism of the pool that reads.", _PLAN)] = None,
    prefill_pp: Annotated[int | None, _option("Its pipeline stages.", _PLAN)] = None,
    prefill_ep: Annotated[int | None, _option("Its chips that share the experts.", _PLAN)] = None,
    prefill_dp: Annotated[int | None, _option("Its attention ranks.", _PLAN)] = None,
    prefill_prompts: Annotated[int | None, _option("Prompts that each of its ranks reads at once.", _PLAN)] = None,
    prefill_instances: Annotated[int | None, _option("Its copies of the model.", _PLAN)] = None,
    network_gbps: Annotated[float | None, _option("Network of one chip, Gbit/s one way.", _PLAN)] = None,
    guesses: Annotated[int | None, _option("Tokens guessed ahead of each step.", _GUESS)] = None,
    acceptance: Annotated[float | None, _option("How often a guess is right, 0 to 1.", _GUESS)] = None,
    draft: Annotated[str | None, _option("The small model that guesses; free guesses if not given.", _GUESS)] = None,
    owned: Annotated[bool, typer.Option("--owned", help="The chips are bought.", rich_help_panel=_MONEY)] = False,
    usd_per_chip_hour: ChipHourPrice = None,
    price_kind: Annotated[PriceKind | None, _option("Which of the known prices.", _MONEY)] = None,
    pue: Annotated[float | None, _option("Facility / IT power.", _MONEY)] = None,
    catalog_file: CatalogFile = None,
    with_parts: Annotated[bool, typer.Option("--explain", help="Take a step apart.")] = False,
    as_json: AsJson = False,
) -> None:
    """Predict the inference bill of any model on any chips, each figure with its interval."""
    from twobills.cli.screen import print_json, print_table, say
    from twobills.flows.plan_inference import InferenceRequest, plan_inference_document
    from twobills.plan.serving_degrees import Degrees
    from twobills.report import serving_sentences as sentences
    from twobills.report import serving_tables as tables

    request = InferenceRequest(
        model=model,
        chips=chips,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        concurrency=concurrency,
        requests_per_s=requests_per_s,
        cached_frac=cached,
        weights=weights,
        kv=kv,
        engine=engine,
        fixed=Degrees(tp=tp, pp=pp, ep=ep, dp=dp, n_instances=instances),
        disaggregated=disaggregated,
        prefill=Degrees(prefill_tp, prefill_pp, prefill_ep, prefill_dp, prefill_instances),
        prefill_prompts=prefill_prompts,
        draft=draft,
        n_guesses=guesses,
        acceptance=acceptance,
        network_gbps=network_gbps,
        owned=owned,
        usd_per_chip_hour=usd_per_chip_hour,
        price_kind=price_kind,
        pue=pue,
        catalog_file=catalog_file,
    )
    document = plan_inference_document(request, with_parts=with_parts)
    if as_json:
        print_json(document)
        return
    say(sentences.serving_sentence(document))
    print_table(tables.speed_table(document))
    print_table(tables.price_table(document))
    say(sentences.payers_sentence(document))
    print_table(tables.day_table(document))
    print_table(tables.plan_and_memory_table(document))
    if with_parts:
        say(sentences.step_sentence(document))
        print_table(tables.step_table(document))
    say(sentences.assumed_sentence(document["assumed"]))
