"""Disaggregated serving: one pool of instances reads prompts, another writes answers, caches travel in between.

Reading is bound by arithmetic and writing by memory; apart, neither delays the other, and each pool is spread and sized
for its own rate (rate matching). A prompt waits for a turn and is read (``plan.reading``), its cache crosses to the
other pool, and waits for the next decoding step. The search looks at the same pools (``serving_two_pools``).
Refs: DistServe, arXiv:2401.09670; Splitwise, arXiv:2311.18677.
Left out: pools of different chips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from twobills.counts.serving_step import kv_cache_bytes, serving_step
from twobills.money.bill import Bill, price
from twobills.money.rates import Rates
from twobills.perf.serving_step import ServingRates, serving_rates
from twobills.plan.interval import Spread
from twobills.plan.pool_matching import Matched, matched, pool_transfer_s
from twobills.plan.pool_ways import Pool, PoolOffer, writing_load
from twobills.plan.queueing import wait_quantile_s
from twobills.plan.reading import late_wait_s, reading_situations, wait_s
from twobills.plan.serving import about_speed, check_context, format_on, log_sigma_of
from twobills.plan.serving_choice import TARGET_UTILIZATION
from twobills.plan.serving_day import (
    IDLE_DRAW,
    Served,
    day_usage,
    instances_spread,
    phase_usage,
)
from twobills.plan.serving_degrees import Degrees
from twobills.plan.serving_figures import Outcome, ServingFigures, figures_of
from twobills.plan.serving_split import TokenShares, split_step
from twobills.plan.steady import Steady
from twobills.plan.training import server_watts
from twobills.specs.cluster import ClusterSpec
from twobills.specs.engine import Engine
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec
from twobills.specs.running import Running
from twobills.specs.serving_calibration import ServingCalibration
from twobills.specs.weight_format import WeightFormat
from twobills.units import SECONDS_PER_DAY, show_frac
from twobills.usage import Job, Origin, Phase, Usage

_FREE = Degrees()


class DisaggregatedPlan(NamedTuple):
    """A load served by two pools."""

    model: ModelSpec
    load: Load
    cluster: ClusterSpec
    """All chips offered."""
    weight_format: WeightFormat
    kv_format: WeightFormat
    engine: Engine
    prefill: Pool
    decode: Pool
    read_s: float
    """To read one prompt."""
    transfer_bytes: float
    """One prompt's cache."""
    transfer_s: float
    per_s: float
    """Requests a second."""
    served: Served
    """The pool that writes."""
    steady: Steady
    """Of one instance of it, one row."""
    speed: ServingRates
    utilization: float
    """Of the busier pool."""
    shares: TokenShares
    bill: Bill
    """Of one day of the reserved machines."""
    figures: ServingFigures
    assumed: tuple[str, ...]

    @property
    def n_chips(self) -> int:
        """Chips that are paid for."""
        return self.prefill.n_chips + self.decode.n_chips


def plan_disaggregated(
    model: ModelSpec,
    load: Load,
    cluster: ClusterSpec,
    rates: Rates,
    running: Running,
    calibration: ServingCalibration,
    *,
    engine: Engine = Engine.SERVER,
    weights: str = "bf16",
    kv: str = "bf16",
    prefill: Degrees = _FREE,
    decode: Degrees = _FREE,
    prefill_prompts: int | None = None,
) -> DisaggregatedPlan:
    """The bill of a load on two pools out of the chips of ``cluster``, matched in rate.

    ``prefill_prompts`` are what each rank of the pool that reads takes at once; None chooses them.

    Raises SpecError, one line, where the chips hold no two instances or the load saturates them.
    """
    check_context(model, load)
    weight_format, kv_format = format_on(cluster, weights), WeightFormat.parse(kv)
    speed = serving_rates(cluster, engine, weight_format.compute, calibration)
    offer = PoolOffer(model, load, cluster, speed, weight_format, kv_format, prefill, decode, prefill_prompts)
    pools = matched(offer)
    served = _served(offer, pools, log_sigma_of(cluster, engine, calibration))
    n_bytes = float(np.max(kv_cache_bytes(model, load.prompt_tokens, kv_format.bytes_per_weight)))
    transfer_s = pool_transfer_s(offer, pools.prefill, pools.decode)
    bill = price(_usage(offer, pools, served, running), rates)
    out = _outcome(offer, pools, served, transfer_s)
    return DisaggregatedPlan(
        model=model,
        load=load,
        cluster=cluster,
        weight_format=weight_format,
        kv_format=kv_format,
        engine=engine,
        prefill=pools.prefill,
        decode=pools.decode,
        read_s=pools.prefill.read_s,
        transfer_bytes=n_bytes,
        transfer_s=transfer_s,
        per_s=pools.per_s,
        served=served,
        steady=served.steady,
        speed=speed,
        utilization=max(pools.prefill.busy(pools.per_s), pools.decode.busy(pools.per_s)),
        shares=out.shares,
        bill=bill,
        figures=figures_of(out, bill, running),
        assumed=tuple(_assumed(offer, pools, engine, calibration)),
    )


def _served(offer: PoolOffer, pools: Matched, log_sigma: float) -> Served:
    """The pool that writes, as if it were alone with prompts that are cached."""
    steady, pool = pools.steady, pools.decode
    n = float(steady.n_running[0])
    return Served(
        model=offer.model,
        load=replace(writing_load(offer.load), requests_per_s=pools.per_s),
        cluster=replace(offer.cluster, n_chips=pool.way.n_chips),
        n_instances=pool.n_instances,
        n_needed=pool.n_needed,
        capacity_per_s=pool.per_s,
        instance=pool.instance,
        steady=steady,
        shares=split_step(offer.model, pool.instance, offer.rates, offer.load, n, reads_prompts=False),
        log_sigma=log_sigma,
    )


def _outcome(offer: PoolOffer, pools: Matched, served: Served, transfer_s: float) -> Outcome:
    """A first token comes after the prompt's wait and reading, its cache's way, and the first decoding step."""
    prefill, step_s, tpot_s = pools.prefill, float(served.steady.step_s[0]), float(served.steady.tpot_s[0])
    first_s = prefill.read_s + transfer_s + step_s
    busy, at_random = prefill.busy(pools.per_s), offer.load.requests_per_s is not None
    turn_s, prompts = prefill.turn_s, prefill.prompts
    mean_s = float(wait_s(*(np.array([x]) for x in (busy, turn_s, prompts)), at_random=at_random)[0])
    late = [late_wait_s(q, busy, turn_s, prompts) if at_random else q * busy * turn_s for q in (0.5, 0.99)]
    median_s, late_s = (
        each + wait_quantile_s(q, 0.0, step_s, step_s) for each, q in zip(late, (0.5, 0.99), strict=True)
    )
    return Outcome(
        load=offer.load,
        n_chips=prefill.n_chips + pools.decode.n_chips,
        answers_per_s=pools.per_s,
        capacity_per_s=pools.per_s / max(busy, pools.decode.busy(pools.per_s)),
        ttft_s=first_s + mean_s + step_s / 2,
        ttft_p50_s=first_s + median_s,
        ttft_p99_s=first_s + late_s,
        tpot_s=tpot_s,
        shares=_shares(offer.load, pools, served),
        chips_spread=_chips_spread(pools, served.log_sigma),
        log_sigma=served.log_sigma,
    )


def _shares(load: Load, pools: Matched, served: Served) -> TokenShares:
    """Input pays the pool that reads; of the one that writes it and cached input pay what their keys add."""
    reading = pools.prefill.n_chips * pools.prefill.busy(pools.per_s)
    writes = served.n_chips * served.busy_frac
    part = writes / (reading + writes)
    cache = served.shares.cache_per_prompt_token * part
    new = 1 - part + cache * load.prompt_tokens * (1 - load.cached_frac)
    cached = cache * load.prompt_tokens * load.cached_frac
    return TokenShares(new, cached, 1 - new - cached, prompts=1 - part, cache_per_prompt_token=cache)


def _usage(offer: PoolOffer, pools: Matched, served: Served, running: Running) -> Usage:
    """One day of both pools."""
    pool, reserved = pools.prefill, pools.prefill.n_chips * SECONDS_PER_DAY
    used = reserved * pool.busy(pools.per_s)
    watts = server_watts(offer.cluster, running)
    prompts = pools.per_s * SECONDS_PER_DAY
    at_once = np.array([pool.prompts])
    work = serving_step(offer.model, reading_situations(pool.instance, at_once, offer.load)).work
    flops, moved = (sum(float(np.sum(w.calls * getattr(w, kind))) for w in work) for kind in ("flops", "bytes"))
    factor = prompts / pool.prompts * pool.way.n_chips / pool.way.pp
    tokens = prompts * offer.load.prompt_tokens * (1 - offer.load.cached_frac)
    phases = {
        Phase.PREFILL: phase_usage(used, watts, tokens=tokens, work=(flops * factor, moved * factor)),
        Phase.IDLE: phase_usage(reserved - used, None if watts is None else IDLE_DRAW * watts),
    }
    reads = Usage(job=Job.INFERENCE, origin=Origin.PREDICTED, phases=phases)
    writes = day_usage(served, running)
    kept = {phase: writes.phases[phase] for phase in (Phase.DECODE, Phase.IDLE)}
    return reads + Usage(job=writes.job, origin=writes.origin, phases=kept)


def _chips_spread(pools: Matched, log_sigma: float) -> Spread:
    total = pools.prefill.n_chips + pools.decode.n_chips
    spreads = [
        (p.n_chips / total, instances_spread(p.n_needed, p.n_instances, log_sigma))
        for p in (pools.prefill, pools.decode)
    ]
    return Spread(sum(part * s.low for part, s in spreads), sum(part * s.high for part, s in spreads))


def _assumed(offer: PoolOffer, pools: Matched, engine: Engine, calibration: ServingCalibration) -> Iterator[str]:
    yield from about_speed(offer.cluster, offer.weights, engine, calibration, more_than_one=True)
    left = offer.cluster.n_chips - pools.prefill.n_chips - pools.decode.n_chips
    unused = f"; {left:,} of the offered chips are not needed and not paid for" if left else ""
    if offer.load.requests_per_s is not None:
        yield f"each pool is at most {show_frac(TARGET_UTILIZATION)} busy where the chips allow{unused}"
    elif left:
        yield unused.removeprefix("; ")
    yield "median and 99th percentile of the first token add those of both pools' waits: an upper estimate"
    yield f"waiting servers draw {show_frac(IDLE_DRAW)} of what working ones do"
