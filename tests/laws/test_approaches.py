from __future__ import annotations

import pytest

from tests.laws import chinchilla, sweeps
from tests.shared_data import needs_shared_data
from twobills.laws.approaches import envelope, envelope_law, isoflop_law, isoflops
from twobills.laws.forms import Law
from twobills.laws.optimum import optimum
from twobills.laws.published import published_law

TRUTH = published_law("besiroglu-2024")


def test_parabolas_find_the_best_sizes_of_a_known_law() -> None:
    curves = isoflops(sweeps.sweep(TRUTH))
    assert [curve.side for curve in curves] == ["within"] * len(sweeps.BUDGETS)
    for curve, budget in zip(curves, sweeps.BUDGETS, strict=True):
        assert curve.compute_flops == pytest.approx(budget)
        assert curve.best_params == pytest.approx(optimum(TRUTH, budget).n_params, rel=0.15)
    law = isoflop_law(curves)
    assert law is not None
    assert law.exponent == pytest.approx(TRUTH.a, abs=0.01)


def test_a_minimum_at_the_edge_is_none() -> None:
    too_big = isoflops(sweeps.sweep(TRUTH, factors=(1.5, 2, 3, 5, 8)))
    too_small = isoflops(sweeps.sweep(TRUTH, factors=(0.1, 0.2, 0.35, 0.6)))
    assert {curve.side for curve in too_big} == {"below"}
    assert {curve.side for curve in too_small} == {"above"}
    assert isoflop_law(too_big) is None


def test_budgets_that_differ_a_little_are_one_curve() -> None:
    law = Law(name="x", E=1.2, A=60, B=400, alpha=0.28, beta=0.33)
    nearby = [c * f for c in (1e18, 1e19) for f in (0.97, 1.0, 1.03)]
    curves = isoflops(sweeps.sweep(law, budgets=nearby))
    assert len(curves) == 2
    for curve, budget in zip(curves, (1e18, 1e19), strict=True):
        assert curve.best_params == pytest.approx(optimum(law, budget).n_params, rel=0.15)


def test_the_lowest_of_the_curves() -> None:
    sizes = [10 ** (7 + i / 8) for i in range(25)]
    from_grid = sweeps.grid(TRUTH, sizes, [10 ** (17 + i / 4) for i in range(17)])
    law = envelope_law(envelope(from_grid))
    assert law is not None
    assert law.exponent == pytest.approx(TRUTH.a, abs=0.03)


def test_without_curves_there_is_no_envelope() -> None:
    assert envelope(sweeps.sweep(TRUTH, budgets=(1e18,))) is None
    assert envelope_law(None) is None


@needs_shared_data
def test_hoffmanns_first_two_approaches_on_his_points() -> None:
    """Hoffmann et al. 2022, table 2: exponents .50 (.488-.502) and .49 (.462-.534); here from fewer points."""
    runs = chinchilla.runs()
    parabolas, lowest = isoflop_law(isoflops(runs)), envelope_law(envelope(runs))
    assert parabolas is not None
    assert lowest is not None
    assert parabolas.exponent == pytest.approx(0.49, abs=0.045)
    assert lowest.exponent == pytest.approx(0.50, abs=0.045)
