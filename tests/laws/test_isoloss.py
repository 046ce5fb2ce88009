"""Curves of equal loss in columns agree with the scalar functions, and with what a search finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.laws.forms import draws, loss
from twobills.laws.isoloss import best_sizes, demand_of, laws_of, losses, tokens_needed
from twobills.laws.optimum import optimum_for_loss, smallest_params, tokens_for_loss
from twobills.laws.published import published_law

LAW = published_law("besiroglu-2024")


def test_columns_are_the_scalar_functions() -> None:
    sizes = np.array([2e9, 7e9, 70e9])
    assert tokens_needed(LAW, sizes, 2.1) == pytest.approx([tokens_for_loss(LAW, n, 2.1) for n in sizes])
    assert losses(LAW, sizes, 1e12) == pytest.approx([loss(LAW, n, 1e12) for n in sizes])


def test_a_size_that_never_reaches_the_loss_needs_endless_data() -> None:
    least = smallest_params(LAW, 2.1)
    needed = tokens_needed(LAW, np.array([least * 0.99, least * 1.01]), 2.1)
    assert np.isinf(needed[0])
    assert np.isfinite(needed[1])


def test_each_drawn_law_has_its_own_curve() -> None:
    drawn = draws(LAW, 20)
    table = tokens_needed(laws_of(drawn), np.array([7e9, 70e9]), 2.2)
    assert table.shape == (len(drawn), 2)
    assert table[3, 1] == pytest.approx(tokens_for_loss(drawn[3], 70e9, 2.2))


def test_a_loss_below_the_irreducible_has_no_size() -> None:
    assert np.isnan(best_sizes(LAW, LAW.E - 0.01, 1e12).n_params)


@given(st.floats(1e9, 1e14), st.floats(1.95, 3.0))
def test_the_best_size_is_where_a_search_finds_it(demand: float, target: float) -> None:
    best = best_sizes(LAW, target, demand)
    least, most = smallest_params(LAW, target), 2 * optimum_for_loss(LAW, target).n_params
    sizes = least * np.exp(np.linspace(1e-3, np.log(most / least), 20_001))
    work = 6 * sizes * tokens_needed(LAW, sizes, target) + 2 * sizes * demand
    mine = 6 * best.n_params * best.n_tokens + 2 * best.n_params * demand
    assert mine <= work.min() * (1 + 1e-9)
    assert losses(LAW, best.n_params, best.n_tokens) == pytest.approx(target, rel=1e-9)


@given(st.floats(1e9, 1e14), st.floats(1.95, 3.0))
def test_the_demand_of_the_best_size_is_the_demand_it_is_best_for(demand: float, target: float) -> None:
    best = best_sizes(LAW, target, demand)
    assert demand_of(LAW, best.n_params, best.n_tokens) == pytest.approx(demand, rel=1e-6)
