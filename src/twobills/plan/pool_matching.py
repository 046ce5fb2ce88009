"""Which pools of instances read prompts and write answers at one rate, out of the chips that are offered.

For requests that come as they like each pool takes the fewest chips that are at most ``TARGET_UTILIZATION`` busy, or,
where that is more than there are, that keep up at all. Clients or a queue get all chips, in the split and the
ways of spreading that give most answers: as many clients run, are read or wait for a turn as there are. More than both
pools have room for, or than the first can read for, saturate them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from twobills.counts.layouts import Column
from twobills.errors import SpecError
from twobills.plan.pareto import undominated
from twobills.plan.pool_settling import Pairs, Settled
from twobills.plan.pool_ways import (
    Pool,
    PoolOffer,
    Readers,
    Writers,
    readers,
    reading_pool,
    writers,
    writing_load,
    writing_pool,
)
from twobills.plan.reading import transfer_s, wait_s
from twobills.plan.serving_choice import TARGET_UTILIZATION
from twobills.plan.serving_degrees import Degrees
from twobills.plan.steady import Steady, steady_state
from twobills.specs.load import Load
from twobills.units import significant

_MOST_SPLITS = 64
_MOST_SETTLED = 64
"""Pairs of pools, those that could answer most, that are settled with their clients."""


class Matched(NamedTuple):
    """Both pools, and the requests a second that they serve."""

    prefill: Pool
    decode: Pool
    per_s: float
    steady: Steady
    """Of one instance that writes, one row."""


def matched(offer: PoolOffer) -> Matched:
    """The pools. Raises SpecError where the chips hold no two instances, or where the load saturates them."""
    reading, writing = readers(offer), writers(offer)
    if offer.load.requests_per_s is not None:
        return _for_rate(offer, reading, writing, offer.load.requests_per_s)
    return _all_chips(offer, reading, writing)


def pool_transfer_s(offer: PoolOffer, prefill: Pool, decode: Pool) -> float:
    """Seconds for one prompt's cache from pool to pool."""
    lanes = min(prefill.way.tp * prefill.way.pp, decode.way.tp * decode.way.pp)
    n_chips = prefill.n_chips + decode.n_chips
    seconds = transfer_s(
        offer.model,
        offer.load,
        decode.instance.kv_bytes,
        offer.rates,
        lanes=np.array([1.0 * lanes]),
        n_chips=np.array([1.0 * n_chips]),
    )
    return float(seconds[0])


def _for_rate(offer: PoolOffer, reading: Readers, writing: Writers, rate: float) -> Matched:
    for most_busy in (TARGET_UTILIZATION, 1.0):
        prefill = _fewest_readers(offer, reading, rate, most_busy)
        decode = _fewest_writers(offer, writing, rate, most_busy)
        able = max(prefill.busy(rate), decode.busy(rate)) < 1
        if able and prefill.n_chips + decode.n_chips <= offer.cluster.n_chips:
            load = replace(writing_load(offer.load), requests_per_s=rate)
            n = float(decode.n_instances)
            steady = steady_state(offer.model, decode.instance, offer.rates, load, n_instances=n)
            return Matched(prefill, decode, rate, steady)
    queued = offer._replace(load=replace(offer.load, requests_per_s=None))
    most = _all_chips(queued, reading, writing).per_s
    free = offer._replace(prefill=Degrees(), decode=Degrees())
    chips = _fewest_readers(free, reading, rate, TARGET_UTILIZATION).n_chips
    chips += _fewest_writers(free, writing, rate, TARGET_UTILIZATION).n_chips
    raise SpecError(
        f"requests_per_s={rate:g}: saturates two pools of {offer.cluster.n_chips:,} x {offer.cluster.chip.name}, which "
        f"take about {significant(most)} a second; offer fewer requests or about {chips:,} chips"
    )


def _fewest_readers(offer: PoolOffer, reading: Readers, rate: float, most_busy: float) -> Pool:
    """The fewest chips, and of those the soonest read."""
    fixed, per_s = offer.prefill.n_instances, reading.speed.per_s
    n = _n_instances(rate, per_s, most_busy, fixed)
    busy = rate / (per_s * n)
    soon = reading.speed.read_s + wait_s(busy, reading.speed.turn_s, reading.prompts, at_random=True)
    row = int(np.lexsort((soon, n * reading.table.n_chips))[0])
    return reading_pool(reading, row, int(n[row]), None if fixed else _needed(rate, per_s[row]))


def _fewest_writers(offer: PoolOffer, writing: Writers, rate: float, most_busy: float) -> Pool:
    """The fewest chips, and of those the most able."""
    fixed, per_s = offer.decode.n_instances, writing.per_s
    n = _n_instances(rate, per_s, most_busy, fixed)
    row = int(np.lexsort((-per_s * n, n * writing.table.n_chips))[0])
    return writing_pool(writing, row, int(n[row]), None if fixed else _needed(rate, per_s[row]))


def _n_instances(rate: float, per_s: Column, most_busy: float, fixed: int | None) -> Column:
    if fixed is not None:
        return np.full(len(per_s), float(fixed))
    return np.asarray(np.floor(rate / (per_s * most_busy)) + 1)


def _needed(rate: float, per_s: float) -> float:
    return float(rate / (per_s * TARGET_UTILIZATION))


def _all_chips(offer: PoolOffer, reading: Readers, writing: Writers) -> Matched:
    pairs, at_most = _splits(offer, reading, writing)
    if not len(pairs.d):
        raise SpecError(
            f"{offer.model.name} in {offer.weights.name}: {offer.cluster.n_chips:,} x {offer.cluster.chip.name} do not "
            "hold both pools; offer more chips or serve it in one pool"
        )
    likely = np.argsort(-at_most, kind="stable")[:_MOST_SETTLED]
    pairs = Pairs._make(column[likely] for column in pairs)
    settled = Settled(offer, reading, writing, pairs)
    able = np.flatnonzero(settled.holds)
    if not able.size:
        raise SpecError(_too_many_clients(offer, settled))
    best = int(able[np.lexsort((settled.ttft_s[able], -settled.per_s[able]))[0]])
    prefill = reading_pool(reading, int(pairs.r[best]), int(pairs.n_reading[best]), None)
    decode = writing_pool(writing, int(pairs.d[best]), int(pairs.n_writing[best]), None)
    steady = settled.steady
    one = steady._replace(**{name: column[[best]] for name, column in steady._asdict().items()})
    return Matched(prefill, decode, float(settled.per_s[best]), one)


def _splits(offer: PoolOffer, reading: Readers, writing: Writers) -> tuple[Pairs, Column]:
    """Pairs that the chips hold, and what each could answer at most."""
    speed = reading.speed
    costs = np.stack([speed.read_s, reading.table.n_chips / speed.per_s, reading.table.n_chips], axis=1)
    worth = np.flatnonzero(undominated(costs))
    parts = []
    for d, way in enumerate(writing.ways):
        n = _counts(offer.cluster.n_chips // way.n_chips, offer.load, offer.decode)
        n_writing, r = (grid.ravel() for grid in np.meshgrid(n, worth, indexing="ij"))
        left = np.floor((offer.cluster.n_chips - n_writing * way.n_chips) / reading.table.n_chips[r])
        wanted = np.maximum(np.ceil(n_writing * writing.per_s[d] / speed.per_s[r]), 1.0)
        fixed = offer.prefill.n_instances
        n_reading = np.minimum(left, wanted) if fixed is None else np.where(left >= fixed, float(fixed), 0.0)
        kept = n_reading >= 1
        at_most = np.minimum(n_writing * writing.per_s[d], n_reading * speed.per_s[r])
        parts.append((np.full(int(kept.sum()), d), n_writing[kept], r[kept], n_reading[kept], at_most[kept]))
    *columns, at_most = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Pairs(*columns), at_most


def _counts(most: int, load: Load, fixed: Degrees) -> Column:
    """Numbers of writing instances to try: all if they are few, else spread evenly in proportion."""
    if fixed.n_instances is not None:
        return np.array([float(fixed.n_instances)])
    most = max(1, min(most, math.floor(load.concurrency or most)))
    return np.unique(np.floor(np.geomspace(1, most, min(most, _MOST_SPLITS)) + 1e-9))


def _too_many_clients(offer: PoolOffer, settled: Settled) -> str:
    most, chips = math.floor(float(settled.room.max())), f"{offer.cluster.n_chips:,} x {offer.cluster.chip.name}"
    return (
        f"concurrency={offer.load.concurrency:g}: saturates two pools of {chips}, which have room for about {most:,} "
        "such clients at once; offer fewer, more chips, or no number for a queue that is never empty"
    )
