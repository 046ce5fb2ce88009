from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.plan.interval import Interval, Spread, around, combined, forecast_spread

spreads = st.builds(Spread, st.floats(0.05, 1.0), st.floats(1.0, 20.0))


def test_the_spread_is_the_normal_distributions_95th_percentile() -> None:
    """z = 1.645 in any table."""
    assert forecast_spread(0.1).high == pytest.approx(math.exp(0.1645), rel=1e-4)
    assert around(2.0, 0.0) == (2.0, 2.0, 2.0)


def test_independent_factors_add_in_quadrature() -> None:
    """Legs of 3 and 4 make 5, in logarithms."""
    found = combined(10.0, Spread(math.exp(-0.3), math.exp(0.03)), Spread(math.exp(-0.4), math.exp(0.04)))
    assert found.p5 == pytest.approx(10 * math.exp(-0.5))
    assert found.p95 == pytest.approx(10 * math.exp(0.05))


def test_a_factor_that_may_be_nothing_makes_nothing_possible() -> None:
    assert combined(10.0, Spread(0.0, 2.0), forecast_spread(0.1)).p5 == 0.0


@given(st.floats(1e-6, 1e12), st.lists(spreads, max_size=4), spreads)
def test_more_doubt_is_never_a_narrower_interval(value: float, some: list[Spread], more: Spread) -> None:
    less, wider = combined(value, *some), combined(value, *some, more)
    assert wider.p5 <= less.p5 * (1 + 1e-12)
    assert wider.p95 >= less.p95 * (1 - 1e-12)
    assert wider.p5 <= value <= wider.p95


@given(st.floats(1e-6, 1e12), spreads)
def test_an_intervals_spread_makes_it_again(value: float, spread: Spread) -> None:
    assert combined(value, combined(1.0, spread).spread) == pytest.approx(combined(value, spread))
    assert Interval(0.0, 0.0, 0.0).spread == (1.0, 1.0)


def test_a_small_share_moves_a_sum_little() -> None:
    assert Spread(0.5, 2.0).weighted(0.0) == (1.0, 1.0)
    assert Spread(0.5, 2.0).weighted(1.0) == (0.5, 2.0)
