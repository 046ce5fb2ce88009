"""The predicted inference bill of a load, from what a user asked to the document that ``plan inference --json`` prints.

Reads the flags into specs, plans (``plan.serving``, or ``plan.disaggregated`` for two pools), sets who gets each dollar
beside the bill, and tries what would change it most: smaller formats, and the other known prices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from twobills.errors import CatalogError, RequestError, SpecError
from twobills.flows.asked import network_bytes_per_s, parse_chips, resolve_model
from twobills.flows.chip_terms import Terms, chip_terms, split_of
from twobills.flows.inference_document import assumed_of_prices, plan_to_json, pools_to_json
from twobills.flows.training_document import chip_to_json, model_to_json
from twobills.plan.disaggregated import DisaggregatedPlan, plan_disaggregated
from twobills.plan.explain_serving import explain_serving
from twobills.plan.serving import ServingPlan, plan_serving
from twobills.plan.serving_chip import serving_chip
from twobills.plan.serving_degrees import Degrees
from twobills.plan.speculative import Speculation
from twobills.report.documents import SCHEMA
from twobills.specs import catalog
from twobills.specs.cluster import ClusterSpec
from twobills.specs.engine import Engine
from twobills.specs.load import Load
from twobills.specs.prices import PriceKind
from twobills.specs.running import Running, default_running
from twobills.specs.serving_calibration import published_serving_calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """What ``twobills plan inference`` was asked; None where nothing was said."""

    model: str
    chips: str
    prompt_tokens: float
    answer_tokens: float
    concurrency: float | None = None
    requests_per_s: float | None = None
    cached_frac: float = 0.0
    weights: str = "bf16"
    kv: str = "bf16"
    engine: Engine = Engine.SERVER
    fixed: Degrees = field(default_factory=Degrees)
    """Of the pool that writes, where there are two."""
    disaggregated: bool = False
    prefill: Degrees = field(default_factory=Degrees)
    prefill_prompts: int | None = None
    draft: str | None = None
    n_guesses: int | None = None
    acceptance: float | None = None
    network_gbps: float | None = None
    owned: bool = False
    usd_per_chip_hour: float | None = None
    price_kind: PriceKind | None = None
    pue: float | None = None
    catalog_file: Path | None = None


class PlannedServing(NamedTuple):
    """A plan with the terms it was priced at, and what its chip's row did not say."""

    plan: ServingPlan | DisaggregatedPlan
    cluster: ClusterSpec
    terms: Terms
    running: Running
    assumed: tuple[str, ...]


def plan_inference_document(asked: InferenceRequest, *, with_parts: bool = False) -> dict[str, Any]:
    """The document. ``with_parts`` adds the step taken apart."""
    planned = planned_serving(asked)
    plan, terms = planned.plan, planned.terms
    body = plan_to_json(plan) if isinstance(plan, ServingPlan) else pools_to_json(plan)
    parts = _parts(plan)
    document = {
        "schema": SCHEMA,
        "model": model_to_json(plan.model),
        "chip": chip_to_json(planned.cluster),
        "inference": {
            **body,
            "pue": planned.running.pue,
            "split": split_of(plan.bill, planned.cluster.chip, terms),
            "split_reason": terms.no_cost or None,
            "bound_by": _bound_by(parts),
            "levers": _levers(asked, planned),
        },
        "assumed": [*_assumed_by_us(asked), *planned.assumed, *plan.assumed, *assumed_of_prices(plan, planned.running)],
    }
    if with_parts:
        document["step_parts"] = parts
    return document


def planned_serving(asked: InferenceRequest) -> PlannedServing:
    """The plan that was asked for. Raises RequestError or SpecError, one line, for what cannot be."""
    if not asked.disaggregated and (asked.prefill != Degrees() or asked.prefill_prompts is not None):
        raise RequestError("--prefill-tp and the like: of a pool of its own; add --disaggregated")
    load = _load(asked)
    model = resolve_model(asked.model, asked.catalog_file)
    cluster, assumed = _cluster(asked)
    running = default_running() if asked.pue is None else replace(default_running(), pue=asked.pue)
    terms = chip_terms(
        cluster.chip,
        running,
        owning=asked.owned,
        usd_per_chip_hour=asked.usd_per_chip_hour,
        kind=asked.price_kind,
        catalog_file=asked.catalog_file,
    )
    speculation = _speculation(asked)
    given: dict[str, Any] = {
        "model": model,
        "load": load,
        "cluster": cluster,
        "rates": terms.rates,
        "running": running,
        "calibration": published_serving_calibration(),
        "engine": asked.engine,
        "weights": asked.weights,
        "kv": asked.kv,
    }
    plan: ServingPlan | DisaggregatedPlan
    if asked.disaggregated:
        plan = plan_disaggregated(
            **given, prefill=asked.prefill, decode=asked.fixed, prefill_prompts=asked.prefill_prompts
        )
    else:
        plan = plan_serving(**given, **asked.fixed._asdict(), speculation=speculation)
    return PlannedServing(plan, cluster, terms, running, assumed)


def _load(asked: InferenceRequest) -> Load:
    return Load(
        prompt_tokens=asked.prompt_tokens,
        answer_tokens=asked.answer_tokens,
        concurrency=asked.concurrency,
        requests_per_s=asked.requests_per_s,
        cached_frac=asked.cached_frac,
    )


def _cluster(asked: InferenceRequest) -> tuple[ClusterSpec, tuple[str, ...]]:
    if "," in asked.chips:
        raise RequestError(f"--chips {asked.chips!r}: one kind of chip; several are for `search inference`")
    name, n_chips = parse_chips(asked.chips)
    chip, assumed = serving_chip(catalog.chip(name, asked.catalog_file))
    network = network_bytes_per_s(asked.network_gbps)
    return ClusterSpec(chip=chip, n_chips=n_chips, scaleout_bytes_per_s=network), assumed


def _speculation(asked: InferenceRequest) -> Speculation | None:
    if asked.n_guesses is None:
        if asked.draft is not None or asked.acceptance is not None:
            raise RequestError("--draft and --acceptance: say how many tokens are guessed ahead, --guesses 3")
        return None
    if asked.acceptance is None:
        raise RequestError("--guesses: say how often a guess is right, like --acceptance 0.7")
    if asked.disaggregated:
        raise RequestError("--guesses: is for instances that read their own prompts; leave out --disaggregated")
    draft = resolve_model(asked.draft, asked.catalog_file) if asked.draft else None
    return Speculation(n_guesses=asked.n_guesses, acceptance=asked.acceptance, draft=draft)


def _parts(plan: ServingPlan | DisaggregatedPlan) -> list[dict[str, Any]]:
    """Of the step that writes answers."""
    load = plan.load
    if isinstance(plan, DisaggregatedPlan):
        load, instance = plan.served.load, plan.decode.instance
        load = replace(load, prompt_tokens=plan.load.prompt_tokens)
    else:
        instance = plan.served.instance
    parts = explain_serving(plan.model, instance, plan.speed, load, float(plan.steady.n_running[0]))
    step_s = sum(part.seconds for part in parts)
    return [part.to_json(step_s) for part in parts]


def _bound_by(parts: list[dict[str, Any]]) -> dict[str, float]:
    """Shares of a step by what they wait for, the largest first."""
    shares: Counter[str] = Counter()
    for part in parts:
        shares[part["bound_by"]] += part["share_frac"]
    return dict(shares.most_common())


def _levers(asked: InferenceRequest, planned: PlannedServing) -> list[dict[str, Any]]:
    """What else the load could be served with, and what a request would then cost; what saves most first."""
    before = planned.plan.figures.usd_per_request_reserved.value
    found: list[tuple[float, str]] = []
    for name, other in _other_requests(asked, planned):
        try:
            found.append((planned_serving(other).plan.figures.usd_per_request_reserved.value, name))
        except (SpecError, CatalogError):
            continue
    return [{"change": name, "usd_per_request": usd, "saves_usd": before - usd} for usd, name in sorted(found)]


def _other_requests(asked: InferenceRequest, planned: PlannedServing) -> Iterator[tuple[str, InferenceRequest]]:
    weights, kv = planned.plan.weight_format, planned.plan.kv_format
    for name in ("fp8", "int4_g128"):
        bits = {"fp8": 8.0}.get(name, 4.0)
        if bits < 0.9 * weights.bits_per_weight and weights.bits_per_weight >= 2 * bits:
            yield f"{name} weights", replace(asked, weights=name)
    if kv.bits_per_weight > 8:
        yield "an fp8 cache", replace(asked, kv="fp8")
    if not asked.owned and asked.usd_per_chip_hour is None:
        chip = planned.cluster.chip.name
        for kind in dict.fromkeys(price.kind for price in catalog.chip_prices(chip, asked.catalog_file)):
            if kind not in (PriceKind.SPOT, asked.price_kind):  # spot chips may be taken away
                yield f"the {kind.replace('_', ' ')} price of chips", replace(asked, price_kind=kind)


def _assumed_by_us(asked: InferenceRequest) -> list[str]:
    """What nobody said and we chose."""
    found = [f"engine: {asked.engine}"]
    if asked.concurrency is None and asked.requests_per_s is None:
        found.append("all requests are queued at once, as in a batch job; no first token waits for that queue")
    if asked.n_guesses is not None and asked.draft is None:
        found.append("guesses cost nothing (no draft model given)")
    return found
