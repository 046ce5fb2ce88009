"""A planned inference bill as plain JSON: base units in the key names, intervals beside the figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twobills.counts.serving_step import weights_per_chip
from twobills.plan.disaggregated import DisaggregatedPlan
from twobills.plan.interval import Interval
from twobills.plan.pool_ways import Pool
from twobills.plan.serving import ServingPlan
from twobills.plan.serving_figures import ServingFigures
from twobills.plan.serving_split import TokenShares, situation_of
from twobills.plan.steady import Instance, Steady
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec
from twobills.specs.running import Running
from twobills.units import show_frac

_KINDS = ("input", "cached_input", "output")


def plan_to_json(plan: ServingPlan) -> dict[str, Any]:
    """Instances that read their own prompts."""
    return {
        **_asked(plan),
        "pools": [_pool(plan.served.instance, plan.n_instances, "reads and writes", float(plan.steady.utilization[0]))],
        "n_plans_compared": plan.n_compared,
        "capacity_requests_per_s": plan.served.capacity_per_s * plan.n_instances,
        "busy_frac": plan.served.busy_frac,
        **figures_to_json(plan.figures),
        **_state(plan.model, plan.served.instance, plan.steady),
        "shares": shares_to_json(plan.shares, plan.load),
        "speculation": _speculation(plan),
        "transfer": None,
        "bill": plan.bill.to_json(),
    }


def pools_to_json(plan: DisaggregatedPlan) -> dict[str, Any]:
    """Two pools."""
    rate = plan.per_s
    pools = [(plan.prefill, "reads prompts"), (plan.decode, "writes answers")]
    return {
        **_asked(plan),
        "pools": [_of_pool(pool, job, rate) for pool, job in pools],
        "n_plans_compared": None,
        "capacity_requests_per_s": rate / plan.utilization,
        "busy_frac": None,
        **figures_to_json(plan.figures),
        **_state(plan.model, plan.decode.instance, plan.steady),
        "shares": shares_to_json(plan.shares, plan.load),
        "speculation": None,
        "transfer": {"read_s": plan.read_s, "cache_bytes": plan.transfer_bytes, "transfer_s": plan.transfer_s},
        "bill": plan.bill.to_json(),
    }


def figures_to_json(figures: ServingFigures) -> dict[str, Any]:
    """Each figure with its interval; dollars per million tokens by kind, in both views."""
    plain = {
        name: figure.to_json() if isinstance(figure, Interval) else None
        for name, figure in figures._asdict().items()
        if not name.startswith("usd_per_mtok")
    }
    for view in ("", "_reserved"):
        prices = {kind: getattr(figures, f"usd_per_mtok_{kind}{view}").to_json() for kind in _KINDS}
        plain[f"usd_per_mtok{view}"] = prices
    return plain


def shares_to_json(shares: TokenShares, load: Load) -> dict[str, Any]:
    """Who pays for the time in which steps run."""
    return {
        "input_frac": shares.input,
        "cached_input_frac": shares.cached_input,
        "output_frac": shares.output,
        "reading_prompts_frac": shares.prompts,
        "reading_prompt_keys_frac": shares.cache_per_prompt_token * load.prompt_tokens,
    }


def assumed_of_prices(plan: ServingPlan | DisaggregatedPlan, running: Running) -> Iterator[str]:
    """In words, what of the price and of the power is assumed."""
    if plan.bill.rates.assumed:
        yield f"price: {plan.bill.rates.source}"
    if plan.figures.watts is not None and running.is_assumed("mean_draw_frac"):
        yield f"mean power over rated power: {show_frac(running.mean_draw_frac)}"


def _asked(plan: ServingPlan | DisaggregatedPlan) -> dict[str, Any]:
    load = plan.load
    return {
        "prompt_tokens": load.prompt_tokens,
        "answer_tokens": load.answer_tokens,
        "concurrency": load.concurrency,
        "requests_per_s": load.requests_per_s,
        "cached_frac": load.cached_frac,
        "weights": plan.weight_format.name,
        "weight_bits": plan.weight_format.bits_per_weight,
        "kv": plan.kv_format.name,
        "engine": plan.engine.value,
        "disaggregated": isinstance(plan, DisaggregatedPlan),
        "n_chips": plan.n_chips,
    }


def _of_pool(pool: Pool, job: str, rate: float) -> dict[str, Any]:
    return _pool(pool.instance, pool.n_instances, job, pool.busy(rate))


def _pool(instance: Instance, n_instances: int, job: str, utilization: float) -> dict[str, Any]:
    degrees = {name: int(getattr(instance, name)[0]) for name in ("tp", "pp", "ep", "dp")}
    words = " ".join(f"{name}{n}" for name, n in degrees.items() if n > 1) or "one chip"
    return {
        "job": job,
        **degrees,
        "n_instances": n_instances,
        "chips_per_instance": int(instance.n_chips[0]),
        "description": words,
        "utilization": utilization,
    }


def _state(model: ModelSpec, instance: Instance, steady: Steady) -> dict[str, Any]:
    held = float(weights_per_chip(model, situation_of(instance, 1.0, 1.0, 0.0, 1.0))[0])
    spare = float(steady.spare_bytes[0])
    running, most = float(steady.n_running[0]), float(steady.most_running[0])
    return {
        "n_running": running,
        "most_running": most,
        "step_s": float(steady.step_s[0]),
        "queue_s": float(steady.queue_s[0]),
        "memory": {
            "weights_bytes": held,
            "cache_room_bytes": spare,
            "cache_used_frac": min(1.0, running / most) if most else 0.0,
        },
    }


def _speculation(plan: ServingPlan) -> dict[str, Any] | None:
    found = plan.speculated
    if found is None:
        return None
    return {
        "tokens_per_step": found.tokens_per_step,
        "draft_frac": found.draft_share,
        "speedup": found.speedup,
    }
