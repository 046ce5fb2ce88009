from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twobills.errors import SpecError
from twobills.plan.queueing import mg1_wait_s, wait_cdf, wait_quantile_s
from twobills.serving.arrivals import poisson_times
from twobills.serving.request import Request, SamplingParams
from twobills.serving.simulate import simulate
from twobills.specs.serving import ServingSpec

loads = st.floats(0.01, 0.95)


def simulated_waits(rho: float, n: int = 2_000_000) -> np.ndarray:
    """Waits of the same queue, service 1: each is the one before plus its service less the time between arrivals."""
    steps = 1 - np.random.default_rng(7).exponential(1 / rho, n)
    path = np.concatenate([[0.0], np.cumsum(steps)])
    return (path - np.minimum.accumulate(path))[1000:]


@pytest.mark.parametrize("rho", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_waits_are_those_of_the_queue_played_out(rho: float, quantile: float) -> None:
    waits = simulated_waits(rho)
    found = wait_quantile_s(quantile, rho, 2.0)
    assert found == pytest.approx(2 * np.quantile(waits, quantile), rel=0.03, abs=0.02)
    assert mg1_wait_s(rho, 2.0) == pytest.approx(2 * waits.mean(), rel=0.03)


def test_the_rest_of_a_running_step_comes_first() -> None:
    waits = simulated_waits(0.6)
    rests = np.random.default_rng(8).uniform(0, 0.7, len(waits))
    assert wait_quantile_s(0.99, 0.6, 1.0, 0.7) == pytest.approx(np.quantile(waits + rests, 0.99), rel=0.03)
    assert wait_quantile_s(0.25, 0.0, 1.0, 0.8) == pytest.approx(0.2)


def test_the_engines_own_scheduler_waits_as_long() -> None:
    """One prompt a step, every step a second, answers of one token: M/D/1."""
    rho, n = 0.6, 40_000
    requests = [
        Request(id=str(i), prompt_token_ids=[0] * 16, params=SamplingParams(max_tokens=1, ignore_eos=True), arrival_s=t)
        for i, t in enumerate(poisson_times(rho, n, seed=3))
    ]
    spec = ServingSpec(max_batch_size=1, batch_size_tokens=16, n_kv_blocks=64)
    done = simulate(requests, spec, lambda _: 1.0).requests
    waits = [(r.first_token_s or 0.0) - r.arrival_s - 1.0 for r in done]
    assert wait_quantile_s(0.5, rho, 1.0) == pytest.approx(np.quantile(waits, 0.5), rel=0.15)
    assert wait_quantile_s(0.99, rho, 1.0) == pytest.approx(np.quantile(waits, 0.99), rel=0.15)


@given(loads, st.floats(0.0, 40.0), st.floats(0.0, 5.0))
def test_the_distribution_rises_and_starts_with_those_who_do_not_wait(rho: float, wait: float, more: float) -> None:
    """Poisson arrivals see an idle server as often as it is idle."""
    assert wait_cdf(0.0, rho, 1.0) == pytest.approx(1 - rho)
    assert 0 <= wait_cdf(wait, rho, 1.0) <= wait_cdf(wait + more, rho, 1.0) + 1e-4 <= 1 + 1e-4


@settings(deadline=None)
@given(loads, st.floats(0.05, 0.999))
def test_a_quantile_undoes_the_distribution(rho: float, quantile: float) -> None:
    wait = wait_quantile_s(quantile, rho, 3.0)
    assert wait_cdf(wait, rho, 3.0) >= quantile - 1e-3
    assert quantile <= 1 - rho or wait_cdf(wait, rho, 3.0) == pytest.approx(quantile, abs=1e-3)


def test_a_queue_that_gets_more_than_it_serves_has_no_wait() -> None:
    with pytest.raises(SpecError, match="utilization=1"):
        wait_quantile_s(0.99, 1.0, 1.0)
    with pytest.raises(SpecError, match="quantile=1"):
        wait_quantile_s(1.0, 0.5, 1.0)
