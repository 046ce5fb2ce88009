"""Every way to spread a model over offered chips for serving: one table of all chips, layouts, formats and batches.

A layout is one instance's tensor x pipeline x data-parallel ranks, as ``plan.serving_degrees`` allows them. A row is a
layout in one weight and one cache format with one number of running sequences, up to what memory holds: it is complete,
so its step needs no fixed point. Left out: layouts across kinds of chips, idle chips put to another use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from twobills.counts.layouts import Column
from twobills.perf.serving_step import ServingRates, rates_table, serving_rates
from twobills.plan.serving_degrees import Degrees, instances_of, ways
from twobills.plan.steady import MOST_SEQUENCES, Instance
from twobills.specs.cluster import ClusterSpec
from twobills.specs.engine import Engine
from twobills.specs.model import ModelSpec
from twobills.specs.serving_calibration import ServingCalibration
from twobills.specs.weight_format import WeightFormat

Rows = NDArray[np.intp]
_Value = TypeVar("_Value", bound=np.generic)
EVERY_BATCH_TO = 128
BATCH_STEP_FRAC = 0.02
"""Beyond ``EVERY_BATCH_TO`` the sequences of a rank grow in steps of this share."""


class ServingOffer(NamedTuple):
    """Chips that the model may be served on."""

    cluster: ClusterSpec
    usd_per_chip_s: float
    weights: tuple[WeightFormat, ...]
    """Formats to look at."""


class Layouts(NamedTuple):
    """Columns: offer and formats as indices into the space, and how one instance is spread."""

    offer: Rows
    weights: Rows
    kv: Rows
    tp: Column
    pp: Column
    ep: Column
    dp: Column

    @property
    def n_chips(self) -> Column:
        """Chips of one instance."""
        return self.tp * self.pp * self.dp

    def select(self, rows: Rows | NDArray[np.bool_]) -> Layouts:
        """The chosen rows."""
        return Layouts._make(column[rows] for column in self)


class Space(NamedTuple):
    """What is offered, and what each of it achieves."""

    model: ModelSpec
    offers: tuple[ServingOffer, ...]
    weights: tuple[WeightFormat, ...]
    kvs: tuple[WeightFormat, ...]
    engine: Engine
    rates: ServingRates
    """A row for each offer and weight format, formats fastest."""
    memory_bytes: Column
    """Of one chip of each offer."""
    layouts: Layouts

    def rates_of(self, layouts: Layouts) -> ServingRates:
        """A column for each figure."""
        rows = layouts.offer * len(self.weights) + layouts.weights
        return ServingRates(*(np.asarray(column)[rows] for column in self.rates))

    def instance(self, layouts: Layouts) -> Instance:
        """Layouts as the steady state wants them."""
        weight_bytes = np.array([each.bytes_per_weight for each in self.weights])
        kv_bytes = np.array([each.bytes_per_weight for each in self.kvs])
        return Instance(
            layouts.tp,
            layouts.pp,
            layouts.ep,
            layouts.dp,
            weight_bytes[layouts.weights],
            kv_bytes[layouts.kv],
            self.memory_bytes[layouts.offer],
        )

    def of_offer(self, figures: Sequence[float], layouts: Layouts) -> Column:
        """A figure of each offer as a column."""
        return np.array(figures, dtype=np.float64)[layouts.offer]


def serving_space(
    model: ModelSpec,
    offers: Sequence[ServingOffer],
    *,
    kvs: Sequence[WeightFormat],
    engine: Engine,
    calibration: ServingCalibration,
) -> Space:
    """All layouts of all offers in all their formats."""
    weights = tuple(dict.fromkeys(each for offer in offers for each in offer.weights))
    rates = [serving_rates(offer.cluster, engine, each.compute, calibration) for offer in offers for each in weights]
    found = [ways(model, offer.cluster, Degrees()) for offer in offers]
    rows = [
        (i, weights.index(each), kv, *way)
        for i, offer in enumerate(offers)
        for way in found[i]
        for each in offer.weights
        for kv in range(len(kvs))
    ]
    offer_of, weights_of, kv_of, tp, pp, ep, dp = np.array(rows, dtype=np.float64).T
    layouts = Layouts(offer_of.astype(np.intp), weights_of.astype(np.intp), kv_of.astype(np.intp), tp, pp, ep, dp)
    memory = [instances_of(found[i][:1], offer.cluster, 1.0, 1.0).memory_bytes[0] for i, offer in enumerate(offers)]
    return Space(model, tuple(offers), weights, tuple(kvs), engine, rates_table(rates), np.array(memory), layouts)


def batches(layouts: Layouts, most_running: Column, *, most_sequences: int = MOST_SEQUENCES) -> tuple[Rows, Column]:
    """Layout and running sequences of each row: all batches that memory holds, its limit included.

    Batches are even over data-parallel ranks.
    """
    sizes = batch_sizes(most_sequences)
    most = np.floor(most_running / layouts.dp)
    n_below = np.searchsorted(sizes, most, side="left")
    n_rows = n_below + (most >= 1)
    layout = np.repeat(np.arange(len(most)), n_rows)
    place = np.arange(len(layout)) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows)
    at_limit = place == n_below[layout]
    size = np.where(at_limit, most[layout], sizes[np.minimum(place, len(sizes) - 1)])
    return layout, size * layouts.dp[layout]


def batch_sizes(most: int) -> Column:
    """1, 2, 3 ... ``EVERY_BATCH_TO``, then in steps of ``BATCH_STEP_FRAC`` to ``most``."""
    small = np.arange(1, EVERY_BATCH_TO + 1)
    n_steps = int(np.log(max(most / EVERY_BATCH_TO, 1)) / np.log1p(BATCH_STEP_FRAC)) + 1
    large = np.floor(EVERY_BATCH_TO * (1 + BATCH_STEP_FRAC) ** np.arange(n_steps + 1))
    sizes = distinct(np.concatenate([small, large]).astype(np.float64))
    return np.asarray(sizes[sizes <= most])


def distinct(values: NDArray[_Value]) -> NDArray[_Value]:
    """Sorted, each once. ``np.unique`` does the same, and imports masked arrays: a tenth of a cold search."""
    ordered = np.sort(values)
    first = np.concatenate([np.ones(min(len(ordered), 1), dtype=bool), ordered[1:] != ordered[:-1]])
    return np.asarray(ordered[first])
