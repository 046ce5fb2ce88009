"""Fronts against their definition, and two ways to them against each other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from twobills.plan.pareto import undominated, undominated_of_two


@given(arrays(np.float64, st.tuples(st.integers(1, 30), st.just(3)), elements=st.integers(0, 4).map(float)))
def test_a_front_is_what_its_definition_says(costs: np.ndarray) -> None:
    for i, kept in enumerate(undominated(costs)):
        beaten = any((row <= costs[i]).all() and (row < costs[i]).any() for row in costs)
        assert kept == (not beaten)


@given(arrays(np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=st.integers(0, 6).map(float)))
def test_two_ways_to_a_front_of_two_columns_agree(costs: np.ndarray) -> None:
    by_sorting = {tuple(costs[i]) for i in undominated_of_two(costs[:, 0], costs[:, 1])}
    assert by_sorting == {tuple(row) for row in costs[undominated(costs)]}
