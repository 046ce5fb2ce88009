"""The predicted training bill of a run as the document that ``plan training --json`` prints.

Sets who gets each dollar beside the bill, tries what would change it most (the same run in fp8, without failures, on
twice the network, at the cheapest known price), and says what nobody asked for and we chose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from twobills.errors import CatalogError, SpecError
from twobills.flows.asked import quantity
from twobills.flows.chip_terms import owning_words, split_of
from twobills.flows.plan_training import PlannedRun, TrainingRequest, planned_run, seq_len_words
from twobills.flows.training_document import assumptions, chip_to_json, model_to_json, run_plan_to_json
from twobills.plan.explain import explain
from twobills.plan.global_batch import RULE, sharable_batch
from twobills.report.documents import SCHEMA
from twobills.specs import catalog
from twobills.specs.calibration import published_calibration
from twobills.specs.dtype import DType
from twobills.specs.prices import PriceKind
from twobills.specs.run import JobKind
from twobills.units import BITS_PER_BYTE, GIGA, show_count, show_frac

WORTH_SAYING = 1.1
"""A nearby batch is named where its tokens come so many times as fast."""
_KIND_WORDS: Mapping[PriceKind, str] = {
    PriceKind.ON_DEMAND: "on demand",
    PriceKind.LIST: "by the price list",
    PriceKind.RESERVED_1Y: "reserved for a year",
    PriceKind.RESERVED_3Y: "reserved for three years",
    PriceKind.OWN: "of your own",
}


def plan_training_document(asked: TrainingRequest, *, with_parts: bool = False) -> dict[str, Any]:
    """The document. ``with_parts`` adds the step taken apart."""
    planned = planned_run(asked)
    plan, terms, calibration = planned.plan, planned.terms, published_calibration()
    training = {
        **run_plan_to_json(plan),
        "split": split_of(plan.bill, plan.cluster.chip, terms),
        "split_reason": terms.no_cost or None,
        "levers": _levers(asked, planned),
        "published_hours_over_forecast": {"p5": calibration.run_low, "p95": calibration.run_high},
    }
    document = {
        "schema": SCHEMA,
        "model": model_to_json(plan.model),
        "chip": chip_to_json(plan.cluster),
        "training": training,
        "assumed": [
            *_notes(asked, planned),
            *assumptions(plan, calibration),
            *([] if terms.cost is None else owning_words(plan.running)),
        ],
    }
    if with_parts:
        document["step_parts"] = [part.to_json(plan.step.seconds) for part in explain(plan.step)]
    return document


def _levers(asked: TrainingRequest, planned: PlannedRun) -> list[dict[str, Any]]:
    """What else the run could be, with what it would cost; what would save most first."""
    before = planned.plan.bill.total_usd
    found: list[tuple[float, str]] = []
    for name, other in _other_requests(asked, planned):
        try:
            found.append((planned_run(other).plan.bill.total_usd, name))
        except (SpecError, CatalogError):
            continue
    return [{"change": name, "total_usd": usd, "saves_usd": before - usd} for usd, name in sorted(found)]


def _other_requests(asked: TrainingRequest, planned: PlannedRun) -> Iterator[tuple[str, TrainingRequest]]:
    chip, cluster = planned.plan.cluster.chip, planned.plan.cluster
    if asked.dtype is not DType.FP8 and DType.FP8 in chip.peak_flops_per_s:
        yield "training in fp8", replace(asked, dtype=DType.FP8)
    if asked.failures:
        yield "losing nothing to failures and pauses", replace(asked, failures=False, mtbf_hours=None)
    network = cluster.scaleout_bytes_per_s or chip.scaleout_bytes_per_s
    if network is not None and cluster.n_chips > cluster.n_fast:
        yield "twice the network", replace(asked, network_gbps=2 * network * BITS_PER_BYTE / GIGA)
    if not asked.owned and asked.usd_per_chip_hour is None:
        kinds = dict.fromkeys(price.kind for price in catalog.chip_prices(chip.name, asked.catalog_file))
        for kind in kinds:
            if kind not in (PriceKind.SPOT, asked.price_kind):  # spot chips may be taken away
                yield f"the price of chips {_KIND_WORDS[kind]}", replace(asked, price_kind=kind)


def _notes(asked: TrainingRequest, planned: PlannedRun) -> list[str]:
    """What nobody said and we chose."""
    plan = planned.plan
    found = [*_about_batch(asked, planned)]
    if asked.seq_len is None:
        found.append(seq_len_words(asked.model, plan.run.seq_len, asked.catalog_file))
    if asked.params is not None:
        shape = plan.model
        found.append(
            f"the shape: Llama 3's proportions, {shape.n_layers} layers of width {shape.d_model}, {shape.n_heads} "
            f"heads of {shape.d_head}, MLP of {shape.d_ff}, vocabulary {shape.vocab_size}"
        )
    if asked.job is JobKind.LORA and asked.lora_rank is None:
        found.append(f"adapters of rank {plan.run.lora_rank}")
    return found


def _about_batch(asked: TrainingRequest, planned: PlannedRun) -> Iterator[str]:
    run, n_chips = planned.plan.run, planned.plan.cluster.n_chips
    if asked.batch_tokens is not None:
        beyond = run.tokens_per_step / quantity("--batch-tokens", asked.batch_tokens) - 1
        if abs(beyond) > 1e-3:
            than = f"{show_frac(abs(beyond))} {'more' if beyond > 0 else 'less'} than asked"
            yield f"batch of {run.global_batch:,} sequences, {than}, which {n_chips:,} chips can share out"
    elif asked.batch_size is None:
        yield f"batch of {run.global_batch:,} sequences: {RULE}"
    elif (better := _better_batch(asked, planned)) is not None:
        yield better


def _better_batch(asked: TrainingRequest, planned: PlannedRun) -> str | None:
    """What the best shared batch near a given one would give, where that is worth saying."""
    run = planned.plan.run
    near = sharable_batch(run.global_batch, [planned.plan.cluster.n_chips])
    if near == run.global_batch:
        return None
    try:
        other = planned_run(replace(asked, batch_size=near)).plan
    except SpecError:
        return None
    faster = other.figures.tokens_per_s.value / planned.plan.figures.tokens_per_s.value
    if faster < WORTH_SAYING:
        return None
    return (
        f"batch of {run.global_batch:,} sequences as given, which the chips share out badly: {near:,} would train "
        f"{show_frac(faster - 1)} more tokens a second ({show_count(other.figures.tokens_per_s.value)})"
    )
