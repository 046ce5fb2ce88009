"""Two pools of instances, one that reads prompts and one that writes answers: what each could be spread like.

A way of spreading is a row of a table, so that all are timed at once; the pool that reads has a row for each number of
prompts that it might read at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.counts.layouts import Column
from twobills.errors import SpecError
from twobills.perf.serving_step import ServingRates
from twobills.plan.reading import PROMPTS_AT_ONCE, Speed, reading_speed, readings
from twobills.plan.serving_degrees import Degrees, Way, instances_of, ways
from twobills.plan.steady import Instance, steady_state
from twobills.specs.cluster import ClusterSpec
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec
from twobills.specs.weight_format import WeightFormat

ALMOST_ALL = 1 - 1e-9
"""Of a prompt is cached where it was read elsewhere; a load that reads nothing is not one."""


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
    prompts: int | None = None
    """That each rank of the pool that reads takes at once; None: to be chosen."""


class Pool(NamedTuple):
    """Instances of one kind that do one of the two jobs."""

    way: Way
    n_instances: int
    n_needed: float | None
    """At the target utilisation, before rounding up; None where all offered chips work."""
    per_s: float
    """Prompts or answers that one instance can do."""
    instance: Instance
    prompts: float = 0.0
    """That one instance reads at once; 0 of the pool that writes."""

    @property
    def n_chips(self) -> int:
        """Chips of the pool."""
        return self.way.n_chips * self.n_instances

    @property
    def turn_s(self) -> float:
        """Between two readings."""
        return self.prompts / self.per_s

    @property
    def read_s(self) -> float:
        """To read a prompt, with those that are read beside it."""
        return self.turn_s * self.way.pp

    def busy(self, rate: float) -> float:
        """Share of what it can do."""
        return rate / (self.per_s * self.n_instances)


class Writers(NamedTuple):
    """Ways of spreading an instance that writes, as columns."""

    ways: list[Way]
    table: Instance
    per_s: Column


class Readers(NamedTuple):
    """Ways of spreading an instance that reads, each at a number of prompts, as columns."""

    ways: list[Way]
    table: Instance
    speed: Speed
    prompts: Column


def writing_load(load: Load) -> Load:
    """The same requests, their prompts read elsewhere, all queued at once."""
    return replace(load, cached_frac=ALMOST_ALL, concurrency=None, requests_per_s=None)


def readers(offer: PoolOffer) -> Readers:
    """All ways to read. Raises SpecError where the chips hold no two instances."""
    found, table, most = _fitting(offer, offer.prefill)
    rows = readings(offer.load, table.dp, most, PROMPTS_AT_ONCE if offer.prompts is None else (offer.prompts,))
    if not len(rows.instance):
        raise SpecError(f"prefill_prompts={offer.prompts}: more tokens than one step reads, or than memory holds")
    table = rows_of(table, rows.instance)
    speed = reading_speed(offer.model, table, offer.rates, offer.load, rows.prompts)
    return Readers([found[i] for i in rows.instance], table, speed, rows.prompts)


def writers(offer: PoolOffer) -> Writers:
    """All ways to write. Raises SpecError where the chips hold no two instances."""
    found, table, _ = _fitting(offer, offer.decode)
    return Writers(found, table, steady_state(offer.model, table, offer.rates, writing_load(offer.load)).answers_per_s)


def _fitting(offer: PoolOffer, fixed: Degrees) -> tuple[list[Way], Instance, Column]:
    """Ways that hold the model and leave chips for the other pool, and the requests that each has room for."""
    found = ways(offer.model, offer.cluster, fixed)
    table = instances_of(found, offer.cluster, offer.weights.bytes_per_weight, offer.kv.bytes_per_weight)
    steady = steady_state(offer.model, table, offer.rates, writing_load(offer.load))
    rows = np.flatnonzero(steady.fits & (table.n_chips < offer.cluster.n_chips))
    if not rows.size:
        raise SpecError(
            f"{offer.model.name} in {offer.weights.name}: {offer.cluster.n_chips:,} x {offer.cluster.chip.name} do not "
            "hold two instances, one for each pool; offer more chips or serve it in one pool"
        )
    return [found[i] for i in rows], rows_of(table, rows), steady.most_running[rows]


def reading_pool(readers: Readers, row: int, n_instances: int, n_needed: float | None) -> Pool:
    """So many instances of one way to read."""
    one = rows_of(readers.table, np.array([row]))
    per_s = float(readers.speed.per_s[row])
    return Pool(readers.ways[row], n_instances, n_needed, per_s, one, float(readers.prompts[row]))


def writing_pool(writers: Writers, row: int, n_instances: int, n_needed: float | None) -> Pool:
    """So many instances of one way to write."""
    one = rows_of(writers.table, np.array([row]))
    return Pool(writers.ways[row], n_instances, n_needed, float(writers.per_s[row]), one)


def rows_of(table: Instance, rows: NDArray[np.intp]) -> Instance:
    """Some rows of a table."""
    return Instance(*(column[rows] for column in table))
