"""The pool that reads: M/D/1 for one prompt at a time, half a turn for clients, and what one step has room for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.plan.queueing import mg1_wait_s
from twobills.plan.reading import PROMPTS_AT_ONCE, late_wait_s, readings, wait_s
from twobills.plan.steady import MOST_STEP_TOKENS
from twobills.specs.load import Load

busy, turns = st.floats(0, 0.999), st.floats(1e-4, 10)


def one(figure: float) -> np.ndarray:
    return np.array([figure])


@given(busy, turns)
def test_one_prompt_at_a_time_is_md1(rho: float, turn_s: float) -> None:
    wait = wait_s(one(rho), one(turn_s), one(1.0), at_random=True)
    assert wait[0] == pytest.approx(mg1_wait_s(rho, turn_s))


@given(busy, turns, st.integers(2, 16))
def test_reading_several_at_once_waits_less_but_no_less_than_clients_do(rho: float, turn_s: float, n: int) -> None:
    """At the same share of what can be read."""
    several = wait_s(one(rho), one(turn_s), one(float(n)), at_random=True)[0]
    assert several <= wait_s(one(rho), one(turn_s), one(1.0), at_random=True)[0]
    assert several >= wait_s(one(rho), one(turn_s), one(float(n)), at_random=False)[0]
    assert wait_s(one(rho), one(turn_s), one(float(n)), at_random=False)[0] == pytest.approx(rho * turn_s / 2)


def test_beyond_saturation_there_is_no_wait_to_speak_of() -> None:
    assert np.isinf(wait_s(np.array([1.0, 1.5]), np.ones(2), np.ones(2), at_random=True)).all()


@given(st.floats(0.1, 0.95), turns, st.integers(1, 16))
def test_few_wait_longer_than_the_late(rho: float, turn_s: float, n: int) -> None:
    """The mean of a skewed wait lies between its median (but for the slices of the sum) and its 99th percentile."""
    median, late = (late_wait_s(q, rho, turn_s, n) for q in (0.5, 0.99))
    mean = wait_s(one(rho), one(turn_s), one(float(n)), at_random=True)[0]
    assert median <= mean * 1.1
    assert mean <= late


@given(st.floats(1, 20_000), st.floats(0, 0.9), st.lists(st.integers(0, 64), min_size=1, max_size=5))
def test_what_is_read_at_once_fits_a_step_and_memory(prompt: float, cached: float, most: list[int]) -> None:
    load = Load(prompt_tokens=prompt, answer_tokens=10, cached_frac=cached)
    found = readings(load, np.ones(len(most)), np.array(most, dtype=float))
    tokens = found.prompts * prompt * (1 - cached)
    assert ((tokens <= MOST_STEP_TOKENS) | (found.prompts == 1)).all()
    assert (found.prompts <= np.array(most)[found.instance]).all()
    assert set(found.instance) == {i for i, n in enumerate(most) if n >= 1}
    assert set(found.prompts) <= set(PROMPTS_AT_ONCE)
