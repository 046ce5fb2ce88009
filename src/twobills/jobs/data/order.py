"""The order of the data as arithmetic: nothing is kept, so any step of any run can be asked for at once.

A permutation of n places is a Feistel network over the next power of four, walked until it lands below n (Black and
Rogaway 2002, "Ciphers with arbitrary finite domains", method 2). Sources are dealt out by a table of one period: their
shares are exact in every period, and as evenly spread within it as they can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

import numpy as np
import numpy.typing as npt

LONGEST_PERIOD = 1 << 16
"""Rows after which the sources' turns repeat, at most; weights are rounded to one part in so many if they must be."""
_N_ROUNDS = 8
Places = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]


def permuted(places: Places, n: int, key: int) -> Places:
    """Where each of ``places`` goes in the permutation of range(n) that ``key`` names."""
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    keys = _mixed(np.arange(_N_ROUNDS, dtype=np.uint64) + np.uint64(hashed(key, n)))
    found = _feistel(places.astype(np.uint64), keys, half)
    while (outside := found >= np.uint64(n)).any():
        found[outside] = _feistel(found[outside], keys, half)
    return found.astype(np.int64)


def hashed(*numbers: int) -> int:
    """64 bits that depend on all the numbers and their order."""
    state = np.zeros(1, np.uint64)
    for number in numbers:
        state = _mixed(state ^ _mixed(np.array([number % (1 << 64)], np.uint64) + np.uint64(1)))
    return int(state[0])


class Turns:
    """Which source's turn it is, for every row of a run, by weight."""

    def __init__(self, weights: Sequence[float]) -> None:
        counts = _counts(weights)
        due = np.concatenate([(np.arange(n) + 0.5) / n for n in counts])
        of = np.repeat(np.arange(len(counts)), counts)
        self._of: Places = of[np.lexsort((of, due))]
        self._counts = np.array(counts, np.int64)
        self._earlier: Places = np.empty(len(self._of), np.int64)
        for source in range(len(counts)):
            mine = self._of == source
            self._earlier[mine] = np.arange(mine.sum())

    @property
    def shares(self) -> list[Fraction]:
        """Of all rows, each source's."""
        return [Fraction(int(n), len(self._of)) for n in self._counts]

    def __call__(self, rows: Places) -> tuple[Places, Places]:
        """For each row its source, and how many rows of that source came before."""
        period, place = np.divmod(rows, len(self._of))
        source = self._of[place]
        return source, period * self._counts[source] + self._earlier[place]

    def rows_of(self, source: int, n_rows: int) -> int:
        """How many of the first ``n_rows`` rows are this source's."""
        period, place = divmod(n_rows, len(self._of))
        return int(period * self._counts[source] + (self._of[:place] == source).sum())


def _counts(weights: Sequence[float]) -> list[int]:
    """Turns of each source in one period: exact if the weights' decimals allow it, else by largest remainder."""
    exact = [Fraction(repr(float(weight))) for weight in weights]
    shares = [weight / sum(exact) for weight in exact]
    period = lcm(*(share.denominator for share in shares))
    if period <= LONGEST_PERIOD:
        return [int(share * period) for share in shares]
    counts = [max(1, int(share * LONGEST_PERIOD)) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - shares[i] * LONGEST_PERIOD)
    for i in by_remainder[: LONGEST_PERIOD - sum(counts)] if sum(counts) < LONGEST_PERIOD else []:
        counts[i] += 1
    return counts


def _feistel(places: _Words, keys: _Words, half: np.uint64) -> _Words:
    low = (np.uint64(1) << half) - np.uint64(1)
    left, right = places >> half, places & low
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) & low)
    return (left << half) | right


def _mixed(words: _Words) -> _Words:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit in changes half of the bits out."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
