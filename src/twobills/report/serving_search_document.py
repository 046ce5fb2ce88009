"""What a search for the best way to serve found, as plain JSON with base units in the key names."""

from __future__ import annotations

from typing import Any

from twobills.plan.serving_found import Curve, FoundServing, Spread
from twobills.plan.serving_priced import Targets
from twobills.plan.serving_search import ServingObjective, ServingSearch
from twobills.report.documents import SCHEMA
from twobills.specs.load import Load
from twobills.units import show_seconds


def serving_search_to_json(
    name: str, load: Load, targets: Targets, found: ServingSearch, *, n_params: float, objective: ServingObjective
) -> dict[str, Any]:
    """The document; ``missed`` says what is missing where nothing meets the targets, null where something does."""
    return {
        "schema": SCHEMA,
        "model": {"name": name, "n_params": n_params},
        "prompt_tokens": load.prompt_tokens,
        "answer_tokens": load.answer_tokens,
        "cached_frac": load.cached_frac,
        "requests_per_s": load.requests_per_s,
        "ttft_target_s": targets.ttft_s,
        "tpot_target_s": targets.tpot_s,
        "objective": objective.value,
        "missed": _missed(load, targets, found.ranking[0]),
        "n_candidates": found.n_candidates,
        "n_two_pools": found.n_pairs,
        "n_meet": found.n_meet,
        "best": [_row(way) for way in found.best],
        "modes": [_row(way) for way in found.modes],
        "ranking": [_row(way) for way in found.ranking],
        "fewest_chips": None if found.fewest is None else _row(found.fewest),
        "front": [_row(way) for way in found.front],
        "curves": [_curve(curve) for curve in found.curves],
    }


def _row(way: FoundServing) -> dict[str, Any]:
    return {
        "chip": way.offer.cluster.chip.name,
        "n_chips": way.n_chips,
        "weights": way.weights.name,
        "kv": way.kv.name,
        "mode": "aggregated" if way.reading is None else "disaggregated",
        "n_instances": way.n_instances,
        "plan": way.spread._asdict(),
        "batch": way.batch,
        "most_running": way.most_running,
        "prefill": None if way.reading is None else _pool(way, way.reading),
        "ttft_s": way.ttft_s.to_json(),
        "tpot_s": way.tpot_s.to_json(),
        "request_s": way.request_s.to_json(),
        "tokens_per_s": way.tokens_per_s.to_json(),
        "tokens_per_s_per_chip": way.tokens_per_s_per_chip,
        "tokens_per_s_per_user": way.tokens_per_s_per_user,
        "requests_per_s": way.requests_per_s,
        "usd_per_mtok": way.usd_per_mtok.to_json(),
        "usd_per_request": way.usd_per_request,
        "meets": way.meets,
    }


def _pool(way: FoundServing, spread: Spread) -> dict[str, Any]:
    return {"n_instances": way.n_reading, "plan": spread._asdict(), "prompts": way.prompts}


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "chip": curve.offer.cluster.chip.name,
        "mode": "disaggregated" if curve.two_pools else "aggregated",
        "tokens_per_s_per_user": curve.tokens_per_s_per_user.tolist(),
        "tokens_per_s_per_chip": curve.tokens_per_s_per_chip.tolist(),
        "usd_per_mtok": curve.usd_per_mtok.tolist(),
    }


def _missed(load: Load, targets: Targets, closest: FoundServing) -> str | None:
    """What the closest way misses, by how much, and what would help; None where it meets everything."""
    if closest.meets:
        return None
    misses = []
    for option, figure, target in (
        ("--ttft", closest.ttft_s.value, targets.ttft_s),
        ("--tpot", closest.tpot_s.value, targets.tpot_s),
    ):
        if target is not None and figure > target:
            misses.append(f"{option} {show_seconds(target)} by {show_seconds(figure - target)}")
    offered, rate = closest.offer.cluster.n_chips, ""
    if closest.n_chips > offered:
        misses.append(f"chips: it needs {closest.n_chips}, not {offered}")
    if load.requests_per_s is not None:
        rate = f" for {load.requests_per_s:g} requests a second"
    chip = closest.offer.cluster.chip.name
    return (
        f"nothing meets the targets{rate}; the closest, on {chip} with {closest.weights.name} weights (TTFT "
        f"{show_seconds(closest.ttft_s.value)}, TPOT {show_seconds(closest.tpot_s.value)}), misses {'; '.join(misses)}"
    )
