"""Which pools of instances read prompts and write answers at one rate, out of the chips that are offered.

For requests that come as they like each pool takes the fewest chips that are at most ``TARGET_UTILIZATION`` busy, or,
where that is more than there are, that keep up at all. Clients or a queue get all chips, in the split and the
ways of spreading that give most answers.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from twobills.counts.layouts import Column
from twobills.counts.serving_step import ServingWork, serving_step
from twobills.errors import SpecError
from twobills.perf.serving_step import ServingRates, serving_step_s
from twobills.plan.serving_choice import TARGET_UTILIZATION
from twobills.plan.serving_degrees import Degrees, Way, instances_of, ways
from twobills.plan.serving_split import situation_of
from twobills.plan.steady import Instance, Steady, steady_state
from twobills.specs.cluster import ClusterSpec
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec
from twobills.specs.weight_format import WeightFormat
from twobills.units import significant

ALMOST_ALL = 1 - 1e-9
"""Of a prompt is cached where it was read elsewhere; a load that reads nothing is not one."""
_MOST_SPLITS = 64
_MOST_BUSY = 0.98
"""Of the pool that holds up the other, with clients or a queue."""
_ROUNDS = 8


class Pool(NamedTuple):
    """Instances of one kind that do one of the two jobs."""

    way: Way
    n_instances: int
    n_needed: float | None
    """At the target utilisation, before rounding up; None where all offered chips work."""
    per_s: float
    """Prompts or answers that one instance can do."""
    instance: Instance

    @property
    def n_chips(self) -> int:
        """Chips of the pool."""
        return self.way.n_chips * self.n_instances

    def busy(self, rate: float) -> float:
        """Share of what it can do."""
        return rate / (self.per_s * self.n_instances)


class Matched(NamedTuple):
    """Both pools, and the requests a second that they serve."""

    prefill: Pool
    decode: Pool
    per_s: float


class PoolOffer(NamedTuple):
    """What is asked and what there is."""

    model: ModelSpec
    load: Load
    cluster: ClusterSpec
    rates: ServingRates
    weights: WeightFormat
    kv: WeightFormat
    prefill: Degrees
    decode: Degrees


class _Side(NamedTuple):
    """One job's ways, as columns."""

    ways: list[Way]
    table: Instance
    per_s: Column

    def pool(self, row: int, n_instances: int, n_needed: float | None) -> Pool:
        """So many instances of one way."""
        one = Instance(*(column[[row]] for column in self.table))
        return Pool(self.ways[row], n_instances, n_needed, float(self.per_s[row]), one)


def matched(offer: PoolOffer) -> Matched:
    """The pools. Raises SpecError where the chips hold no two instances, or where the load saturates them."""
    reading, writing = _reading_side(offer), _writing_side(offer)
    if offer.load.requests_per_s is not None:
        return _for_rate(offer, reading, writing, offer.load.requests_per_s)
    return _all_chips(offer, reading, writing)


def reading_step(offer: PoolOffer, table: Instance) -> ServingWork:
    """The step in which every lane (attention rank and pipeline turn) of an instance reads one prompt."""
    tokens = offer.load.prompt_tokens * (1 - offer.load.cached_frac) * table.dp * table.pp
    return serving_step(offer.model, situation_of(table, 0.0, 1.0, tokens, offer.load.prompt_tokens))


def writing(offer: PoolOffer, pool: Pool, per_s: float) -> Steady:
    """Where an instance that only writes settles when the pool gets so many requests a second."""
    load = replace(writing_load(offer.load), requests_per_s=min(per_s, pool.per_s * pool.n_instances * ALMOST_ALL))
    return steady_state(offer.model, pool.instance, offer.rates, load, n_instances=float(pool.n_instances))


def writing_load(load: Load) -> Load:
    """The same requests, their prompts read elsewhere, all queued at once."""
    return replace(load, cached_frac=ALMOST_ALL, concurrency=None, requests_per_s=None)


def _reading_side(offer: PoolOffer) -> _Side:
    found, table = _fitting(offer, offer.prefill)
    seconds = serving_step_s(reading_step(offer, table), offer.rates)
    return _Side(found, table, table.dp * table.pp / seconds)


def _writing_side(offer: PoolOffer) -> _Side:
    found, table = _fitting(offer, offer.decode)
    return _Side(found, table, steady_state(offer.model, table, offer.rates, writing_load(offer.load)).answers_per_s)


def _fitting(offer: PoolOffer, fixed: Degrees) -> tuple[list[Way], Instance]:
    """Ways that hold the model and leave chips for the other pool."""
    found = ways(offer.model, offer.cluster, fixed)
    table = instances_of(found, offer.cluster, offer.weights.bytes_per_weight, offer.kv.bytes_per_weight)
    steady = steady_state(offer.model, table, offer.rates, writing_load(offer.load))
    rows = np.flatnonzero(steady.fits & (table.n_chips < offer.cluster.n_chips))
    if not rows.size:
        raise SpecError(
            f"{offer.model.name} in {offer.weights.name}: {offer.cluster.n_chips:,} x {offer.cluster.chip.name} do not "
            "hold two instances, one for each pool; offer more chips or serve it in one pool"
        )
    return [found[i] for i in rows], Instance(*(column[rows] for column in table))


def _for_rate(offer: PoolOffer, reading: _Side, writing_: _Side, rate: float) -> Matched:
    for most_busy in (TARGET_UTILIZATION, 1.0):
        prefill = _fewest(reading, rate, most_busy, offer.prefill)
        decode = _fewest(writing_, rate, most_busy, offer.decode)
        able = max(prefill.busy(rate), decode.busy(rate)) < 1
        if able and prefill.n_chips + decode.n_chips <= offer.cluster.n_chips:
            return Matched(prefill, decode, rate)
    most = _all_chips(offer._replace(load=writing_load(offer.load)), reading, writing_).per_s
    chips = sum(_fewest(side, rate, TARGET_UTILIZATION, Degrees()).n_chips for side in (reading, writing_))
    raise SpecError(
        f"requests_per_s={rate:g}: saturates two pools of {offer.cluster.n_chips:,} x {offer.cluster.chip.name}, which "
        f"take about {significant(most)} a second; offer fewer requests or about {chips:,} chips"
    )


def _fewest(side: _Side, rate: float, most_busy: float, fixed: Degrees) -> Pool:
    needed = rate / (side.per_s * TARGET_UTILIZATION)
    n = np.floor(rate / (side.per_s * most_busy)) + 1
    if fixed.n_instances is not None:
        n = np.full(len(needed), float(fixed.n_instances))
    row = int(np.lexsort((-side.per_s * n, n * side.table.n_chips))[0])
    return side.pool(row, int(n[row]), None if fixed.n_instances else float(needed[row]))


def _all_chips(offer: PoolOffer, reading: _Side, writing_: _Side) -> Matched:
    best: tuple[float, int, int, int, int] | None = None
    for d, way in enumerate(writing_.ways):
        counts = _splits(offer.cluster.n_chips // way.n_chips, offer.load, offer.decode)
        answers = counts * _answers_per_s(offer, writing_, d, counts)
        for r, other in enumerate(reading.ways):
            left = np.floor((offer.cluster.n_chips - counts * way.n_chips) / other.n_chips)
            readers = np.minimum(left, np.ceil(answers / (reading.per_s[r] * _MOST_BUSY)))
            if offer.prefill.n_instances is not None:
                readers = np.where(left >= offer.prefill.n_instances, offer.prefill.n_instances, 0.0)
            rate = np.minimum(answers, readers * reading.per_s[r] * _MOST_BUSY)
            i = int(np.argmax(rate))
            if readers[i] >= 1 and (best is None or rate[i] > best[0]):
                best = float(rate[i]), r, int(readers[i]), d, int(counts[i])
    if best is None:
        raise SpecError(
            f"{offer.model.name} in {offer.weights.name}: {offer.cluster.n_chips:,} x {offer.cluster.chip.name} do not "
            "hold both pools; offer more chips or serve it in one pool"
        )
    prefill, decode = reading.pool(best[1], best[2], None), writing_.pool(best[3], best[4], None)
    return Matched(prefill, decode, _rate_of(offer, prefill, decode))


def _splits(most: int, load: Load, fixed: Degrees) -> Column:
    """Numbers of writing instances to try: all if they are few, else spread evenly in proportion."""
    if fixed.n_instances is not None:
        return np.array([float(fixed.n_instances)])
    most = max(1, min(most, math.floor(load.concurrency or most)))
    return np.unique(np.floor(np.geomspace(1, most, min(most, _MOST_SPLITS)) + 1e-9))


def _answers_per_s(offer: PoolOffer, side: _Side, row: int, counts: Column) -> Column:
    """Of one instance, if so many share the load."""
    if offer.load.concurrency is None:
        return np.full(len(counts), side.per_s[row])
    table = Instance(*(np.full(len(counts), column[row]) for column in side.table))
    load = replace(writing_load(offer.load), concurrency=offer.load.concurrency)
    return steady_state(offer.model, table, offer.rates, load, n_instances=counts).answers_per_s


def _rate_of(offer: PoolOffer, prefill: Pool, decode: Pool) -> float:
    """Requests a second: with clients, those that are being read are missing among those written to."""
    most = min(prefill.per_s * prefill.n_instances, decode.per_s * decode.n_instances) * _MOST_BUSY
    clients = offer.load.concurrency
    if clients is None:
        return most
    reading_s = prefill.way.dp * prefill.way.pp / prefill.per_s
    load, rate, writers = writing_load(offer.load), most, clients
    for _ in range(_ROUNDS):
        shared = replace(load, concurrency=max(writers, 1.0))
        steady = steady_state(offer.model, decode.instance, offer.rates, shared, n_instances=float(decode.n_instances))
        rate = min(float(steady.answers_per_s[0]) * decode.n_instances, most)
        writers = max(clients - rate * reading_s, clients / 2)
    return rate
