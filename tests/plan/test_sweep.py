"""Cells spend their budgets, and a curve gets sizes on its open side until it has a minimum or none can be added."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.counts.flops import train_flops_per_token
from twobills.counts.params import count_params
from twobills.errors import RequestError
from twobills.plan.sweep import SHAPES, Cell, curve_side, first_cells, ladder, next_cell, open_side, plan_cell, runs_of
from twobills.specs.sweep import SweepSpec

SPEC = SweepSpec(out=Path("sweep"))
budgets = st.floats(1e11, 1e19)


@given(budgets, st.integers(0, len(SHAPES) - 1))
def test_a_cell_spends_its_budget_within_half_a_step(budget: float, rung: int) -> None:
    cell = plan_cell(SPEC, budget, rung)
    if cell is None:
        return
    step_flops = train_flops_per_token(cell.model, SPEC.seq_len) * cell.batch_size * cell.seq_len
    assert abs(cell.compute_flops - budget) <= 0.5001 * step_flops
    assert cell.n_params == count_params(cell.model).total
    assert cell.n_steps >= 20


@given(budgets, st.integers(4, 12))
def test_first_sizes_are_neighbours_on_the_ladder(budget: float, n_sizes: int) -> None:
    try:
        cells = first_cells(replace(SPEC, n_sizes=n_sizes), budget)
    except RequestError:
        return
    rungs = [cell.rung for cell in cells]
    assert rungs == list(range(rungs[0], rungs[0] + n_sizes))


def test_sizes_of_the_ladder_grow_by_less_than_two_and_a_fifth() -> None:
    sizes = [count_params(model).total for model in ladder(SPEC)]
    assert all(1.4 < more / less < 2.2 for less, more in pairwise(sizes))
    assert all(model.d_model % model.n_heads == 0 and model.d_head % 2 == 0 for model in ladder(SPEC))


def test_sizes_follow_the_minimum_of_the_budget_before() -> None:
    cells = first_cells(SPEC, 1e14, {1e12: 1e6})
    assert cells[0].n_params < 1e7 < cells[-1].n_params, "ten times the size for a hundred times the budget"


@given(st.floats(11.3, 15), st.floats(4, 9), st.integers(4, 7))
def test_extending_ends_in_a_minimum_or_at_the_end_of_what_can_be_trained(
    log_budget: float, log_best: float, n_sizes: int
) -> None:
    """Losses with one minimum anywhere, far outside the ladder too."""
    spec, budget = replace(SPEC, n_sizes=n_sizes), 10**log_budget

    def loss(cell: Cell) -> float:
        return 2 + 0.1 * (math.log(cell.n_params) - math.log(10) * log_best) ** 2

    try:
        cells = first_cells(spec, budget)
    except RequestError:
        return
    done = [(cell, loss(cell)) for cell in cells]
    for _ in range(len(SHAPES)):
        more = next_cell(spec, done)
        if more is None:
            break
        assert more.rung not in [cell.rung for cell, _ in done]
        done.append((more, loss(more)))
    side, rungs = open_side(done), [cell.rung for cell, _ in done]
    if side == "within":
        lowest = min(done, key=lambda pair: pair[1])[0].rung
        assert min(rungs) < lowest < max(rungs)
    elif side == "below":
        assert min(rungs) == 0 or plan_cell(spec, budget, min(rungs) - 1) is None
    else:
        assert max(rungs) == len(SHAPES) - 1 or plan_cell(spec, budget, max(rungs) + 1) is None


def test_a_diverged_cell_is_no_minimum() -> None:
    cells = first_cells(SPEC, 1e13)
    done = [(cell, 2.0 + 0.01 * (i - 1) ** 2) for i, cell in enumerate(cells[:-1])]
    assert open_side([*done, (cells[-1], math.nan)]) == open_side(done) == "within"


@pytest.mark.parametrize("sign", [1, -1], ids=["below", "above"])
def test_beyond_one_size_that_diverged_another_is_tried_and_beyond_two_none(sign: int) -> None:
    losses = [2.0 + 0.01 * i for i in range(5)]  # the lowest at the edge: this curve is open
    cells = first_cells(SPEC, 1e13)[::sign]
    done = list(zip(cells, losses, strict=True))
    outer = next_cell(SPEC, done)
    assert outer is not None
    assert outer.rung == cells[0].rung - sign
    outermost = next_cell(SPEC, [*done, (outer, math.nan)])
    assert outermost is not None
    assert outermost.rung == outer.rung - sign
    assert next_cell(SPEC, [*done, (outer, math.nan), (outermost, math.nan)]) is None


def test_a_budget_of_which_too_few_sizes_have_a_loss_has_no_curve() -> None:
    cells = first_cells(SPEC, 1e13)
    for n_known in range(4):
        done = [(cell, 2.0 if i < n_known else math.nan) for i, cell in enumerate(cells)]
        assert open_side(done) == curve_side(done) == "unclear"
        assert next_cell(SPEC, done) is None
        assert len(runs_of(done)) == n_known


def test_a_budget_too_small_for_the_sizes_is_refused() -> None:
    with pytest.raises(RequestError, match="--budgets 1e"):
        first_cells(SPEC, 1e7)
