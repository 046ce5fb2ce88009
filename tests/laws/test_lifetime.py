"""Sardana et al. 2023: the printed cases in FLOPs, within 2 %, and what holds for any demand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import SpecError
from twobills.laws.lifetime import lifetime, lifetime_optimum
from twobills.laws.optimum import optimum_for_size
from twobills.laws.published import published_law

LAW = published_law("sardana-2023")


@pytest.mark.parametrize(
    ("quality_params", "demand", "best_params", "data_factor", "saving_frac"),
    [
        (7e9, 1e11, 6.0e9, 1.18, 0.0085),
        (30e9, 1e13, 13.6e9, 2.84, 0.28),
        (70e9, 1e13, 41.6e9, 7.92 / 4.26, 0.12),
        (70e9, 2e12, 57.9e9, 5.20 / 4.255, 0.0131),
    ],
)
def test_the_papers_cases(
    quality_params: float, demand: float, best_params: float, data_factor: float, saving_frac: float
) -> None:
    """Section 2, table 2 and section 6; savings of the first and last rows recomputed from its constants."""
    chinchilla = optimum_for_size(LAW, quality_params)
    best = lifetime_optimum(LAW, chinchilla.loss, demand)
    usual = lifetime(LAW, quality_params, chinchilla.loss, demand)
    assert best.n_params == pytest.approx(best_params, rel=0.02)
    assert best.n_tokens / chinchilla.n_tokens == pytest.approx(data_factor, rel=0.02)
    assert 1 - best.total_flops / usual.total_flops == pytest.approx(saving_frac, rel=0.02)


def test_the_first_figure() -> None:
    """13B quality at 2e12 inference tokens: a 7B trained longer saves 1.7e22 FLOPs, 17 %."""
    chinchilla = optimum_for_size(LAW, 13e9)
    usual = lifetime(LAW, 13e9, chinchilla.loss, 2e12)
    seven = lifetime(LAW, 7e9, chinchilla.loss, 2e12)
    assert usual.total_flops - seven.total_flops == pytest.approx(1.69e22, rel=0.02)
    assert 1 - seven.total_flops / usual.total_flops == pytest.approx(0.174, rel=0.02)


@given(st.floats(1e8, 1e12))
def test_without_demand_the_best_is_chinchillas(n_params: float) -> None:
    chinchilla = optimum_for_size(LAW, n_params)
    best = lifetime_optimum(LAW, chinchilla.loss, 0)
    assert best.n_params == pytest.approx(n_params, rel=1e-4)
    assert best.inference_flops == 0


@given(st.floats(1e8, 1e12), st.floats(1e8, 1e15), st.floats(1.01, 100))
def test_more_demand_means_a_smaller_model_and_a_larger_saving(n_params: float, demand: float, factor: float) -> None:
    chinchilla = optimum_for_size(LAW, n_params)
    little, much = (lifetime_optimum(LAW, chinchilla.loss, d) for d in (demand, factor * demand))
    assert much.n_params <= little.n_params * (1 + 1e-9)
    savings = [
        1 - best.total_flops / lifetime(LAW, n_params, chinchilla.loss, d).total_flops
        for best, d in ((little, demand), (much, factor * demand))
    ]
    assert savings[1] >= savings[0] - 1e-9


@given(st.floats(1e8, 1e12), st.floats(1e8, 1e15), st.floats(0.5, 2))
def test_no_other_size_is_cheaper(n_params: float, demand: float, factor: float) -> None:
    target = optimum_for_size(LAW, n_params).loss
    best = lifetime_optimum(LAW, target, demand)
    try:
        other = lifetime(LAW, factor * best.n_params, target, demand)
    except SpecError:
        return
    assert other.total_flops >= best.total_flops * (1 - 1e-9)


def test_the_impossible_is_refused() -> None:
    with pytest.raises(SpecError, match="no amount of data reaches"):
        lifetime(LAW, 1e9, 1.8, 1e12)
    with pytest.raises(SpecError, match="inference_tokens=-1"):
        lifetime_optimum(LAW, 2.0, -1)
    with pytest.raises(SpecError, match="inference_weight=0"):
        lifetime_optimum(LAW, 2.0, 1, inference_weight=0)
