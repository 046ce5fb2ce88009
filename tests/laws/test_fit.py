"""The bars of the replication on Chinchilla's points, and the law found again that made the data."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from tests.laws import chinchilla, sweeps
from tests.shared_data import needs_shared_data
from twobills.errors import DataError
from twobills.laws.fit import bootstrap, fit
from twobills.laws.forms import Law
from twobills.laws.optimum import optimum
from twobills.laws.published import published_law

SMALL = Law(name="small models", E=1.2, A=60, B=400, alpha=0.28, beta=0.33)


@needs_shared_data
def test_the_replications_fit() -> None:
    """Besiroglu et al. 2024: objective at most 0.0010183, E 1.8172, alpha .3478, beta .3658 within .005."""
    found = chinchilla.best()
    assert found.n_runs == 240
    assert found.objective <= 0.0010183
    assert abs(found.law.E - 1.8172) < 0.005
    assert found.law.alpha == pytest.approx(0.3478, abs=0.005)
    assert found.law.beta == pytest.approx(0.3658, abs=0.005)
    assert found.law.a == pytest.approx(0.513, abs=0.005)
    assert 17 < optimum(found.law, 5.76e23).tokens_per_param < 20


@needs_shared_data
def test_the_point_fit_is_fast() -> None:
    runs = chinchilla.runs()
    started = time.thread_time()
    fit(runs)
    assert time.thread_time() - started < 5


@needs_shared_data
@pytest.mark.slow
def test_the_replications_standard_errors() -> None:
    """From 4,000 bootstraps: .02566, .01540, .02060, within .01, in under 120 CPU-seconds."""
    started = time.thread_time()
    errors = bootstrap(chinchilla.runs(), chinchilla.best(), n_bootstraps=4000).standard_errors()
    assert time.thread_time() - started < 120
    assert errors["E"] == pytest.approx(0.02566, abs=0.01)
    assert errors["alpha"] == pytest.approx(0.01540, abs=0.01)
    assert errors["beta"] == pytest.approx(0.02060, abs=0.01)


@needs_shared_data
def test_few_bootstraps_say_nearly_the_same() -> None:
    errors = bootstrap(chinchilla.runs(), chinchilla.best(), n_bootstraps=300).standard_errors()
    assert errors["E"] == pytest.approx(0.02566, abs=0.01)
    assert errors["alpha"] == pytest.approx(0.01540, abs=0.01)
    assert errors["beta"] == pytest.approx(0.02060, abs=0.01)


@pytest.mark.parametrize(
    "truth",
    [published_law("besiroglu-2024"), published_law("hoffmann-2022"), SMALL],
    ids=lambda law: law.name,
)
def test_without_noise_the_law_comes_back(truth: Law) -> None:
    found = fit(sweeps.sweep(truth)).law
    for name in ("E", "alpha", "beta"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=1e-3)
    assert optimum(found, 1e23).n_params == pytest.approx(optimum(truth, 1e23).n_params, rel=1e-2)


def test_models_a_million_times_smaller_fit_too() -> None:
    """Sizes and losses far from Chinchilla's grid of starts, in nats per byte."""
    tiny = Law(name="tiny", E=0.4, A=20, B=60, alpha=0.35, beta=0.30)
    found = fit(sweeps.sweep(tiny, budgets=(1e11, 1e12, 1e13, 1e14))).law
    assert abs(found.E - tiny.E) < 0.004
    assert found.alpha == pytest.approx(tiny.alpha, rel=1e-2)


def test_the_covariance_is_that_of_the_draws() -> None:
    runs = sweeps.sweep(SMALL, noise=0.005)
    drawn = bootstrap(runs, fit(runs), n_bootstraps=50)
    covariance = drawn.covariance()
    assert covariance[3][3] ** 0.5 == pytest.approx(drawn.standard_errors()["alpha"])
    assert covariance[0][4] == covariance[4][0]


def test_the_same_seed_gives_the_same_errors() -> None:
    runs = sweeps.sweep(SMALL, noise=0.005)
    best = fit(runs)
    first, again, other = (bootstrap(runs, best, n_bootstraps=20, seed=seed).covariance() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_runs_that_show_no_gain_from_size_carry_no_law() -> None:
    runs = sweeps.sweep(SMALL)
    worse = replace(runs, loss=1.0 + 400 / runs.n_tokens**0.3 + 0.1 * np.log(runs.n_params))
    with pytest.raises(DataError, match="no gain from size"):
        fit(worse)


def test_one_bootstrap_is_none() -> None:
    runs = sweeps.sweep(SMALL)
    with pytest.raises(DataError, match="bootstraps=1: at least 2"):
        bootstrap(runs, fit(runs), n_bootstraps=1)
