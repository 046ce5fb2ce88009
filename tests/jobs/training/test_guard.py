"""One bad batch does nothing, and a level that stays is no spike."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.jobs.training.guard import WINDOW, DivergedError, SpikeGuard

LOSSES = st.lists(st.floats(0.1, 20.0), min_size=2 * WINDOW, max_size=2 * WINDOW)


def settled(sigmas: float = 6.0) -> SpikeGuard:
    guard = SpikeGuard(sigmas)
    for i in range(WINDOW):
        assert guard(2.0 + 0.1 * (-1) ** i, 1.0)
    return guard


def test_a_spike_is_skipped_and_training_goes_on() -> None:
    guard = settled()
    assert guard(2.55, 1.0), "five and a half standard deviations are none"
    assert not guard(3.2, 1.0)
    assert guard.skipped
    assert guard(2.1, 1.0)
    assert not guard.skipped


def test_a_norm_however_large_is_the_optimisers_affair() -> None:
    assert settled()(2.0, 1e6)


def test_a_level_that_stays_is_soon_no_spike() -> None:
    guard = settled()
    taken = [guard(4.0, 1.0) for _ in range(WINDOW)]
    assert not taken[0]
    assert taken[-1]
    assert taken.count(False) <= 5


def test_early_losses_are_not_judged() -> None:
    guard = SpikeGuard()
    assert all(guard(loss, 1.0) for loss in [2.0] * (WINDOW // 2 - 1) + [100.0])


def test_zero_sigmas_let_all_numbers_through() -> None:
    assert settled(0.0)(1e6, 1.0)


@pytest.mark.parametrize("values", [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, -math.inf)])
def test_what_is_no_number_ends_the_run(values: tuple[float, float]) -> None:
    with pytest.raises(DivergedError, match=r"^the (loss|gradients' norm) is (nan|inf|-inf)$"):
        settled(0.0)(*values)


@given(LOSSES, st.integers(0, 2 * WINDOW))
def test_a_restored_guard_judges_as_the_one_that_never_stopped(losses: list[float], stop: int) -> None:
    whole, first, second = SpikeGuard(), SpikeGuard(), SpikeGuard()
    expected = [whole(loss, 1.0) for loss in losses]
    judged = [first(loss, 1.0) for loss in losses[:stop]]
    second.restore(first.state())
    assert judged + [second(loss, 1.0) for loss in losses[stop:]] == expected
