"""The best size in dollars: it is on the curve, it falls with demand, and the grid prices what the table prices."""

from __future__ import annotations

import numpy as np
import pytest

from tests.plan.sizing import LAW, question, train_offer
from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.laws.forms import loss
from twobills.laws.optimum import optimum_for_loss, smallest_params
from twobills.plan.size import (
    by_size,
    cheapest,
    frontier,
    grid,
    joined,
    ladder,
    near_best,
    refined,
    shapes,
    size_table,
)

FEW = 14


def best_of(n_answers: float) -> tuple[float, float]:
    asked = question(n_answers)
    table = size_table(asked, ladder(LAW, asked.target_loss, FEW))
    found = cheapest(table, [0])
    assert found is not None
    return float(table.n_params[found.size]), found.total_usd


def test_every_size_has_the_quality_asked_for() -> None:
    asked = question(1e10)
    table = size_table(asked, ladder(LAW, asked.target_loss, FEW))
    assert len(table.models) >= FEW - 2
    assert np.all(np.diff(table.n_params) > 0)
    for model, n_params, n_tokens in zip(table.models, table.n_params, table.n_tokens, strict=True):
        assert count_params(model).total == n_params
        assert loss(LAW, n_params, n_tokens) == pytest.approx(asked.target_loss)


def test_the_ladder_spans_the_sizes_that_can_be_best() -> None:
    asked = question(1e10)
    sizes = [count_params(model).total for model in ladder(LAW, asked.target_loss)]
    assert min(sizes) < 1.05 * smallest_params(LAW, asked.target_loss)
    assert max(sizes) == pytest.approx(2 * optimum_for_loss(LAW, asked.target_loss).n_params, rel=0.05)


def test_more_demand_means_a_smaller_model_and_a_larger_bill() -> None:
    found = [best_of(n_answers) for n_answers in (0, 1e9, 1e11, 1e13)]
    assert [size for size, _ in found] == sorted((size for size, _ in found), reverse=True)
    assert found[-1][0] < found[0][0] / 2
    assert [usd for _, usd in found] == sorted(usd for _, usd in found)


def test_without_demand_the_best_is_near_the_compute_optimal_one() -> None:
    """In FLOPs it is that exactly (tests/laws); in dollars a larger model trains a little better, and it is flat."""
    asked = question(0)
    table = refined(asked, size_table(asked, ladder(LAW, asked.target_loss, FEW)), [0])
    low, high = near_best(table.n_params, by_size(table, [0]))
    assert low < 13e9 * 1.05
    assert high > 13e9 * 0.95
    assert np.all(table.serve_usd == 0)


def test_the_grid_prices_every_point_as_the_table_does() -> None:
    asked = question(1e10)
    table = size_table(asked, ladder(LAW, asked.target_loss, FEW))
    points = grid(asked, table, 10_000)
    assert points.n_points >= 10_000
    assert points.usd.shape == (len(table.models), points.n_tokens.shape[1], 1, 3)
    size, tokens, pair = 5, 17, 2
    expected = table.train_usd_per_token[size, 0] * points.n_tokens[size, tokens] + table.serve_usd[size, pair]
    assert points.usd[size, tokens, 0, pair] == pytest.approx(expected)
    assert points.loss[size, tokens] == pytest.approx(loss(LAW, table.n_params[size], points.n_tokens[size, tokens]))


def test_a_better_model_never_costs_less() -> None:
    asked = question(1e10)
    table = size_table(asked, ladder(LAW, asked.target_loss, FEW))
    levels = [asked.target_loss + delta for delta in (-0.02, 0.0, 0.02)]
    found = frontier(table, grid(asked, table), [0], levels)
    usd = [point.total_usd for point in found]
    assert usd == sorted(usd, reverse=True)
    for point in found:
        assert loss(LAW, point.n_params, point.n_tokens) <= point.loss * (1 + 1e-12)


def test_more_kinds_of_chips_are_never_dearer() -> None:
    asked = question(1e10)
    models = ladder(LAW, asked.target_loss, 6)
    one = cheapest(size_table(asked, models), [0])
    both = cheapest(size_table(asked._replace(train=(*asked.train, train_offer("h200"))), models), [0])
    assert one is not None
    assert both is not None
    assert both.total_usd <= one.total_usd


def test_a_table_can_grow_around_its_best() -> None:
    asked = question(1e10)
    coarse = size_table(asked, ladder(LAW, asked.target_loss, 8))
    fine = refined(asked, coarse, [0])
    assert len(fine.models) > len(coarse.models)
    assert np.all(np.diff(fine.n_params) >= 0)
    assert by_size(fine, [0]).min() <= by_size(coarse, [0]).min()
    same = joined(coarse, fine)
    assert len(same.models) == len(coarse.models) + len(fine.models)


def test_sizes_that_fit_no_training_chip_are_left_out_with_a_reason() -> None:
    asked = question(1e10)._replace(train=(train_offer(n_chips=1),))
    table = size_table(asked, shapes([2e9, 40e9]) + ladder(LAW, asked.target_loss, 4))
    assert not np.isfinite(table.train_usd_per_token[-1, 0])
    assert any("does not fit" in reason for reason in table.refused)


def test_near_best_stops_at_a_dearer_size() -> None:
    sizes, usd = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([100.0, 120.0, 100.0, 104.0, 106.0])
    assert near_best(sizes, usd) == (1.0, 1.0)
    assert near_best(sizes[1:], usd[1:]) == (3.0, 4.0)


def test_the_impossible_is_refused() -> None:
    asked = question(1e10)
    with pytest.raises(SpecError, match="reached by none of these sizes"):
        size_table(asked, shapes([1e8]))
    with pytest.raises(SpecError, match="fewer than a language model has"):
        ladder(LAW, 8.0)
    with pytest.raises(SpecError, match="no model and no amount of data"):
        ladder(LAW, LAW.E)
