"""Which way of spreading a model serves a load at the least dollars per token, and what to say when none can.

All ways are evaluated at once at their capacity. Clients or a queue get all offered chips: the way with the most
answers per chip wins, of those that have room for all clients. For requests that come as they like as many whole
instances are taken as keep each at most ``TARGET_UTILIZATION`` busy, all that there are if those are fewer; the fewest
chips win, then the fastest answers.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.counts.layouts import Column
from twobills.counts.serving_step import kv_cache_bytes
from twobills.errors import SpecError
from twobills.perf.serving_step import ServingRates
from twobills.plan.serving_degrees import Degrees, Way, instances_of, ways
from twobills.plan.steady import Instance, Steady, in_flight, steady_state
from twobills.specs.cluster import ClusterSpec
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec
from twobills.specs.weight_format import FORMATS, WeightFormat
from twobills.units import show_bytes, significant

TARGET_UTILIZATION = 0.8
"""Assumed: how busy an instance is made where the number of instances is free; beyond it waits grow quickly."""
_SMALLER = ("fp8", "int4_g128")
_MOST_CHIPS = 65536


class Offer(NamedTuple):
    """What is asked and what there is."""

    model: ModelSpec
    load: Load
    cluster: ClusterSpec
    rates: ServingRates
    weights: WeightFormat
    kv: WeightFormat
    fixed: Degrees = Degrees()


class Choice(NamedTuple):
    """What was chosen; instance and steady state have one row."""

    way: Way
    n_instances: int
    n_needed: float | None
    """Instances at the target utilisation, before rounding up; None where their number is given or all work."""
    capacity_per_s: float
    """Answers that one instance can give at most."""
    instance: Instance
    steady: Steady
    n_compared: int


def chosen(offer: Offer) -> Choice:
    """The cheapest way. Raises SpecError, one line, where the model does not fit or the load saturates the chips."""
    found = ways(offer.model, offer.cluster, offer.fixed)
    table = instances_of(found, offer.cluster, offer.weights.bytes_per_weight, offer.kv.bytes_per_weight)
    full = steady_state(offer.model, table, offer.rates, _queued(offer.load))
    if not full.fits.any():
        raise SpecError(_does_not_fit(offer, table, full))
    rows = np.flatnonzero(full.fits)
    offered = np.array([offer.fixed.n_instances or offer.cluster.n_chips // found[i].n_chips for i in rows])
    if offer.load.requests_per_s is None:
        return _all_chips(offer, found, table, full, rows, offered)
    return _fewest_chips(offer, found, table, full, rows, offered)


def _all_chips(
    offer: Offer,
    found: list[Way],
    table: Instance,
    full: Steady,
    rows: NDArray[np.intp],
    offered: NDArray[np.intp],
) -> Choice:
    if offer.load.concurrency is not None:
        offered = np.maximum(np.minimum(offered, np.floor(offer.load.concurrency)), 1).astype(np.intp)
    steady = steady_state(offer.model, _rows(table, rows), offer.rates, offer.load, n_instances=1.0 * offered)
    if steady.saturated.all():
        raise SpecError(_too_many_clients(offer, found, rows, _row_of(full, rows), offered))
    per_chip = np.where(steady.saturated, 0.0, steady.answers_per_s / _rows(table, rows).n_chips)
    best = int(np.lexsort((steady.tpot_s, -per_chip))[0])
    return _choice(found, table, full, steady, rows, best, int(offered[best]), None)


def _fewest_chips(
    offer: Offer,
    found: list[Way],
    table: Instance,
    full: Steady,
    rows: NDArray[np.intp],
    offered: NDArray[np.intp],
) -> Choice:
    rate, capacity = offer.load.requests_per_s or 0.0, full.answers_per_s[rows]
    needed = rate / (capacity * TARGET_UTILIZATION)
    n = offered if offer.fixed.n_instances else np.minimum(np.ceil(needed), offered).astype(np.intp)
    able = np.flatnonzero(capacity * n > rate)
    if not able.size:
        raise SpecError(_saturated(offer, found, rows, capacity, offered))
    chips = n * _rows(table, rows).n_chips
    able = able[chips[able] == chips[able].min()]
    rows, n, needed = rows[able], n[able], needed[able]
    steady = steady_state(offer.model, _rows(table, rows), offer.rates, offer.load, n_instances=1.0 * n)
    best = int(np.argmin(steady.ttft_s + offer.load.answer_tokens * steady.tpot_s))
    return _choice(
        found, table, full, steady, rows, best, int(n[best]), None if offer.fixed.n_instances else float(needed[best])
    )


def _choice(
    found: list[Way],
    table: Instance,
    full: Steady,
    steady: Steady,
    rows: NDArray[np.intp],
    best: int,
    n_instances: int,
    n_needed: float | None,
) -> Choice:
    row = int(rows[best])
    return Choice(
        way=found[row],
        n_instances=n_instances,
        n_needed=n_needed,
        capacity_per_s=float(full.answers_per_s[row]),
        instance=_rows(table, np.array([row])),
        steady=_row_of(steady, np.array([best])),
        n_compared=len(found),
    )


def _rows(table: Instance, rows: NDArray[np.intp]) -> Instance:
    return Instance(*(column[rows] for column in table))


def _row_of(steady: Steady, rows: NDArray[np.intp]) -> Steady:
    return steady._replace(**{name: column[rows] for name, column in steady._asdict().items()})


def _queued(load: Load) -> Load:
    return replace(load, concurrency=None, requests_per_s=None)


def _saturated(
    offer: Offer,
    found: list[Way],
    rows: NDArray[np.intp],
    capacity: Column,
    offered: NDArray[np.intp],
) -> str:
    rate = offer.load.requests_per_s or 0.0
    best = int(np.argmax(capacity * offered))
    size, most = found[rows[best]].n_chips, float(capacity[best] * offered[best])
    chips = math.ceil(rate / (capacity[best] * TARGET_UTILIZATION)) * size
    return (
        f"requests_per_s={rate:g}: saturates {_chips(offer.cluster)}, which take at most {significant(most)} a second; "
        f"offer fewer requests or about {chips:,} chips"
    )


def _too_many_clients(
    offer: Offer, found: list[Way], rows: NDArray[np.intp], full: Steady, offered: NDArray[np.intp]
) -> str:
    clients, room = offer.load.concurrency or 0.0, in_flight(full)
    best = int(np.argmax(room * offered))
    most, size = float(room[best] * offered[best]), found[rows[best]].n_chips
    chips = math.ceil(clients / room[best]) * size
    return (
        f"concurrency={clients:g}: saturates {_chips(offer.cluster)}, which have room for {math.floor(most):,} such "
        f"clients at once; offer fewer, about {chips:,} chips, or no number for a queue that is never empty"
    )


def _does_not_fit(offer: Offer, table: Instance, full: Steady) -> str:
    best = int(np.argmax(full.spare_bytes))
    spare, load = float(full.spare_bytes[best]), offer.load
    stored = f"{offer.model.name} in {offer.weights.name}"
    if spare <= 0:
        lacks = f"{stored} does not fit {_chips(offer.cluster)}: {show_bytes(-spare)} too much on each of them"
    else:
        tokens = load.prompt_tokens + load.answer_tokens
        cache = float(kv_cache_bytes(offer.model, tokens, table.kv_bytes[best]))
        room = spare * float(table.n_chips[best])
        lacks = (
            f"{stored} leaves {show_bytes(room)} of {_chips(offer.cluster)} for the cache, and one request of "
            f"{tokens:,.0f} tokens takes {show_bytes(cache)}"
        )
    return f"{lacks}; {_would_fit(offer)}"


def _would_fit(offer: Offer) -> str:
    ways = []
    n_chips = 2 * offer.cluster.n_chips
    free = offer._replace(fixed=Degrees())
    while n_chips <= _MOST_CHIPS and not _fits(free, n_chips, offer.weights):
        n_chips *= 2
    if _fits(free, offer.cluster.n_chips, offer.weights):
        ways.append("degrees of parallelism that are left to choose")
    elif n_chips <= _MOST_CHIPS:
        ways.append(f"{n_chips:,} of these chips")
    smaller = (FORMATS[name] for name in _SMALLER)
    names = [f.name for f in smaller if f.bits_per_weight < offer.weights.bits_per_weight]
    ways += [f"{name} weights" for name in names if _fits(offer, offer.cluster.n_chips, FORMATS[name])][:1]
    return f"{' or '.join(ways)} would" if ways else "no number of these chips would fit it"


def _fits(offer: Offer, n_chips: int, weights: WeightFormat) -> bool:
    cluster = replace(offer.cluster, n_chips=n_chips)
    try:
        found = ways(offer.model, cluster, offer.fixed)
    except SpecError:
        return False
    table = instances_of(found, cluster, weights.bytes_per_weight, offer.kv.bytes_per_weight)
    return bool(steady_state(offer.model, table, offer.rates, _queued(offer.load)).fits.any())


def _chips(cluster: ClusterSpec) -> str:
    return f"{cluster.n_chips:,} x {cluster.chip.name}" if cluster.n_chips > 1 else f"one {cluster.chip.name}"
