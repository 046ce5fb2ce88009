"""Where pairs of pools settle with their clients, or with a queue that is never empty: many pairs at once.

The answers that a writing pool gives grow with the sequences it runs, and so do the clients in flight: running, being
read, waiting for a turn or for their cache to cross. So the sequences are sought that hold all clients; more than the
first pool can read for, or than memory holds, is not to be had.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.counts.layouts import Column
from twobills.plan.pool_ways import PoolOffer, Readers, Writers, rows_of, writing_load
from twobills.plan.reading import transfer_s, wait_s
from twobills.plan.steady import MOST_SEQUENCES, ROUNDS, Steady, steady_state

_FEWEST = 1e-6


class Pairs(NamedTuple):
    """Columns: rows of writers and readers, and how many of each."""

    d: NDArray[np.intp]
    n_writing: Column
    r: NDArray[np.intp]
    n_reading: Column


class Settled:
    """Where pairs of pools settle with their clients, or with a queue that is never empty."""

    def __init__(self, offer: PoolOffer, readers: Readers, writers: Writers, pairs: Pairs) -> None:
        self._offer, self._pairs = offer, pairs
        self._table = rows_of(writers.table, pairs.d)
        self._turn_s, self._prompts = readers.speed.turn_s[pairs.r], readers.prompts[pairs.r]
        self._able = readers.speed.per_s[pairs.r] * pairs.n_reading
        readers_table = rows_of(readers.table, pairs.r)
        self._fixed_s = readers.speed.read_s[pairs.r] + transfer_s(
            offer.model,
            offer.load,
            self._table.kv_bytes,
            offer.rates,
            lanes=np.minimum(readers_table.tp * readers_table.pp, self._table.tp * self._table.pp),
            n_chips=pairs.n_reading * readers_table.n_chips + pairs.n_writing * self._table.n_chips,
        )
        clients = offer.load.concurrency
        most = self._state(MOST_SEQUENCES * self._table.dp).most_running
        low, high = np.full(len(most), _FEWEST), most
        for _ in range(ROUNDS):
            middle = np.sqrt(low * high)
            at = self._state(middle)
            enough = self._rate(at) >= self._able
            if clients is not None:
                enough |= self._in_flight(at) >= clients
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        self.steady = self._state(high)
        self.per_s: Column = np.minimum(self._rate(self.steady), self._able)
        self.room: Column = self._in_flight(self.steady)
        self.holds = np.full(len(most), True) if clients is None else self.room >= clients * (1 - 1e-6)
        self.ttft_s: Column = self._before_first_s(self.steady) + self.steady.tpot_s

    def _state(self, n_running: Column) -> Steady:
        """Of one instance with so many running."""
        offer, per_rank = self._offer, n_running / self._table.dp
        load = writing_load(offer.load)
        return steady_state(offer.model, self._table, offer.rates, load, most_sequences=per_rank)

    def _rate(self, at: Steady) -> Column:
        return np.asarray(at.answers_per_s * self._pairs.n_writing)

    def _before_first_s(self, at: Steady) -> Column:
        """Until the decoding step that gives the first token."""
        busy = np.minimum(self._rate(at) / self._able, 1.0)
        return wait_s(busy, self._turn_s, self._prompts, at_random=False) + self._fixed_s + at.tpot_s / 2

    def _in_flight(self, at: Steady) -> Column:
        """Clients that are read for or written to."""
        return np.asarray(at.n_running * self._pairs.n_writing + self._rate(at) * self._before_first_s(at))
