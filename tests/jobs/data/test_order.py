"""Order as arithmetic: a permutation is one and mixes; turns are exact, even and countable."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.jobs.data.order import LONGEST_PERIOD, Turns, hashed, permuted


@given(n=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_every_place_is_taken_once(n: int, key: int) -> None:
    assert sorted(permuted(np.arange(n), n, key)) == list(range(n))


@given(key=st.integers(0, 2**63), places=st.lists(st.integers(0, 10**12 - 1), min_size=1, max_size=50, unique=True))
def test_places_among_a_trillion_need_no_table(key: int, places: list[int]) -> None:
    found = permuted(np.array(places), 10**12, key)
    assert len(set(found.tolist())) == len(places)
    assert 0 <= found.min() <= found.max() < 10**12


def test_one_place_at_a_time_gives_the_same() -> None:
    together = permuted(np.arange(1000), 1000, 7)
    assert [int(permuted(np.array([i]), 1000, 7)[0]) for i in range(0, 1000, 97)] == together[::97].tolist()


def test_a_permutation_mixes() -> None:
    """Neighbours go far apart, keys do not resemble each other, and every place is as likely as any other."""
    n = 10_007
    first, second = permuted(np.arange(n), n, 1), permuted(np.arange(n), n, 2)
    for found in (first, second):
        assert abs(np.corrcoef(np.arange(n), found)[0, 1]) < 0.05
        assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.05
        gaps = np.abs(np.diff(found))
        assert np.mean(gaps) == pytest.approx(n / 3, rel=0.05)  # of two random places
    assert (first == second).mean() < 0.005
    small, n_keys = 16, 4000
    where = np.array([permuted(np.arange(small), small, key) for key in range(n_keys)])
    for place in range(small):
        seen = np.bincount(where[:, place], minlength=small)
        chi_square = ((seen - n_keys / small) ** 2 / (n_keys / small)).sum()
        assert chi_square < 44.3  # a random one exceeds it in 0.01 % of cases (15 degrees of freedom)


def test_a_hash_depends_on_every_number_and_their_order() -> None:
    seen = {hashed(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seen) == 1000
    assert hashed(1, 2) != hashed(2, 1)
    assert hashed(0) != hashed(0, 0)


@given(st.lists(st.sampled_from([0.1, 0.25, 1, 2, 3, 0.05]), min_size=1, max_size=5))
def test_turns_are_exact_in_the_long_run(weights: list[float]) -> None:
    turns = Turns(weights)
    total = sum(Fraction(repr(float(weight))) for weight in weights)
    assert turns.shares == [Fraction(repr(float(weight))) / total for weight in weights]
    n_rows = 3000
    source, earlier = turns(np.arange(n_rows))
    for i, share in enumerate(turns.shares):
        mine = source == i
        assert earlier[mine].tolist() == list(range(mine.sum()))
        assert turns.rows_of(i, n_rows) == mine.sum()
        ideal = (np.arange(n_rows) + 1) * float(share)
        assert np.abs(np.cumsum(mine) - ideal).max() < len(weights) + 1  # never far behind or ahead


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6))
def test_odd_weights_are_rounded_to_one_part_in_65536(weights: list[float]) -> None:
    turns = Turns(weights)
    for share, weight in zip(turns.shares, weights, strict=True):
        assert float(share) == pytest.approx(weight / sum(weights), abs=2 * len(weights) / LONGEST_PERIOD)
        assert share > 0
