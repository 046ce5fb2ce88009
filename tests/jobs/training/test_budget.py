"""A budget is never overspent by more than a step, whatever the steps cost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.jobs.training.budget import Budget
from twobills.specs.limits import Limits
from twobills.usage import Job, Origin, Phase, PhaseUsage, Usage

USD_PER_CHIP_S = 0.5


class Spending:
    """What a run has spent, turned by hand: two chips."""

    def __init__(self) -> None:
        self.used = PhaseUsage()

    def __call__(self) -> Usage:
        return Usage(job=Job.TRAINING, origin=Origin.MEASURED, phases={Phase.PRETRAIN: self.used})

    def spend(self, seconds: float) -> None:
        self.used = self.used + PhaseUsage(chip_s=2 * seconds, flops=1e9 * seconds)


def usd(usage: Usage) -> float:
    return usage.total.chip_s * USD_PER_CHIP_S


def budget(spending: Spending, limits: Limits) -> Budget:
    return Budget(limits, price=usd, n_chips=2, spent=spending)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_usd=10.0), r"^max_usd=10: \$10\.00? spent, and the next step would make it \$11"),
        (Limits(max_seconds=10.0), "^max_seconds=10: 10.0 s spent, and the next step would make it 11.0 s"),
        (Limits(max_flops=1e10), r"^max_flops=1e\+10: 10.0 GFLOP spent, and the next step would make it 11.0 GFLOP"),
    ],
)
def test_each_limit_is_kept_and_named(limits: Limits, message: str) -> None:
    spending = Spending()
    watched = budget(spending, limits)
    n_done = 0
    while not (why := watched.refuses(watched.forecast(n_done, PhaseUsage(chip_s=2, flops=1e9)))):
        spending.spend(1.0)
        n_done += 1
    assert n_done == 10
    assert re.search(message, why), why


@given(st.lists(st.floats(0.1, 3.0), min_size=1, max_size=40), st.floats(0.5, 60.0))
def test_at_most_a_step_is_overspent(step_seconds: list[float], limit_s: float) -> None:
    spending = Spending()
    watched = budget(spending, Limits(max_seconds=limit_s))
    for n_done, seconds in enumerate(step_seconds):
        if watched.refuses(watched.forecast(n_done, PhaseUsage(chip_s=2 * step_seconds[0]))):
            break
        before_s = spending.used.chip_s / 2
        assert before_s <= limit_s
        spending.spend(seconds)
    assert spending.used.chip_s / 2 <= limit_s + max(step_seconds)


@given(st.floats(0.1, 3.0), st.floats(0.5, 60.0), st.floats(0.0, 5.0))
def test_equal_steps_overspend_nothing_and_what_must_follow_fits(
    step_s: float, limit_s: float, closing_s: float
) -> None:
    spending = Spending()
    watched, n_done = budget(spending, Limits(max_seconds=limit_s)), 0
    foreseen = PhaseUsage(chip_s=2 * step_s)
    while not watched.refuses(watched.forecast(n_done, foreseen) + PhaseUsage(chip_s=2 * closing_s)):
        spending.spend(step_s)
        n_done += 1
    if n_done:
        assert spending.used.chip_s / 2 + closing_s <= limit_s * (1 + 1e-9)
    assert (n_done + 1) * step_s + closing_s > limit_s * (1 - 1e-9)


def test_a_forecast_is_the_newest_step_where_steps_get_dearer() -> None:
    spending = Spending()
    watched = budget(spending, Limits(max_seconds=100.0))
    foreseen = PhaseUsage(chip_s=0.5)
    assert watched.forecast(7, foreseen) == foreseen
    for n_done, (seconds, expected_s) in enumerate([(1.0, 1.0), (3.0, 3.0), (0.5, 1.5)], start=8):
        spending.spend(seconds)
        assert watched.forecast(n_done, foreseen).chip_s == pytest.approx(2 * expected_s)


def test_without_limits_nothing_is_refused() -> None:
    assert not budget(Spending(), Limits()).refuses(PhaseUsage(chip_s=1e30, flops=1e30))
