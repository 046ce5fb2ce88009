"""What a search for the best way to train found, as plain JSON with base units in the key names."""

from __future__ import annotations

from typing import Any

from twobills.plan.interval import around
from twobills.plan.search import FoundPlan, Job, Objective, SearchResult
from twobills.report.documents import SCHEMA
from twobills.units import SECONDS_PER_DAY, show_frac, show_seconds


def search_to_json(
    job: Job, found: SearchResult, *, n_params: float, objective: Objective, max_days: float | None
) -> dict[str, Any]:
    """The document; ``missed`` says by how much a deadline was, null where there is none or it is met."""
    return {
        "schema": SCHEMA,
        "model": {"name": job.model.name, "n_params": n_params},
        "n_tokens": job.n_tokens,
        "seq_len": job.seq_len,
        "global_batch": job.global_batch,
        "batch_size_tokens": job.global_batch * job.seq_len,
        "objective": objective.value,
        "max_days": max_days,
        "missed": _missed(found, max_days),
        "n_plans": found.n_plans,
        "n_fit": found.n_fit,
        "n_front": len(found.front),
        "best": [_row(plan) for plan in found.best],
        "ranking": [_row(plan) for plan in found.ranking],
        "front": [_row(plan) for plan in found.front],
    }


def _row(plan: FoundPlan) -> dict[str, Any]:
    spec, cluster = plan.spec, plan.offer.cluster
    return {
        "chip": cluster.chip.name,
        "n_chips": cluster.n_chips,
        "dtype": plan.dtype.value,
        "plan": {
            "dp": spec.dp,
            "tp": spec.tp,
            "pp": spec.pp,
            "cp": spec.cp,
            "ep": spec.ep,
            "zero": spec.zero.value,
            "shard": spec.shard or spec.dp * spec.cp,
            "interleave": spec.interleave,
            "micro_batch": spec.micro_batch,
            "n_micro": plan.n_micro,
            "recompute": spec.recompute.name.lower(),
        },
        "described": spec.describe(),
        "step_s": around(plan.step_s, float(plan.offer.rates.log_sigma)).to_json(),
        "compute_frac": plan.compute_frac,
        "exposed_frac": plan.exposed_frac,
        "bubble_frac": plan.bubble_frac,
        "straggling_frac": plan.straggling_frac,
        "tokens_per_s": plan.tokens_per_s,
        "mfu": plan.mfu,
        "wall_s": plan.wall_s.to_json(),
        "total_usd": plan.usd.to_json(),
        "usd_per_ttoken": plan.usd_per_ttoken.to_json(),
        "memory_bytes": plan.memory_bytes,
        "spare_bytes": plan.spare_bytes,
        "spare_frac": plan.spare_frac,
        "speed_assumed": plan.offer.speed_assumed,
        "price_assumed": plan.offer.price_assumed,
    }


def _missed(found: SearchResult, max_days: float | None) -> str | None:
    """By how much the deadline is missed; None where there is none or it is met."""
    quickest = min(found.front, key=lambda plan: plan.wall_s.value)
    if max_days is None or quickest.wall_s.value <= max_days * SECONDS_PER_DAY:
        return None
    late_s = quickest.wall_s.value - max_days * SECONDS_PER_DAY
    cluster = quickest.offer.cluster
    return (
        f"--max-days {max_days:g}: the fastest plan, on {cluster.n_chips} x {cluster.chip.name}, takes "
        f"{show_seconds(quickest.wall_s.value)}, {show_seconds(late_s)} "
        f"({show_frac(late_s / SECONDS_PER_DAY / max_days)}) too long; more or faster chips, or fewer tokens"
    )
