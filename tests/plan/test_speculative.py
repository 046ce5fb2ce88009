from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.served import BIG, LONG, ONE, load_of, served
from twobills.errors import SpecError
from twobills.plan.speculative import Speculation, expected_tokens
from twobills.usage import Phase

MIDDLE = replace(BIG, name="middle", n_layers=24)
TINY = replace(LONG, name="tiny", n_layers=2)


@pytest.mark.parametrize(("acceptance", "n_guesses"), [(0.5, 1), (0.8, 4), (0.6, 7)])
def test_tokens_of_a_step_are_those_of_guessing_played_out(acceptance: float, n_guesses: int) -> None:
    right = np.random.default_rng(1).random((200_000, n_guesses)) < acceptance
    kept = np.cumprod(right, axis=1).sum(axis=1)
    assert expected_tokens(acceptance, n_guesses) == pytest.approx(1 + kept.mean(), rel=0.01)


@given(st.floats(0, 1), st.integers(1, 16))
def test_a_step_yields_one_token_to_all_of_its_guesses(acceptance: float, n_guesses: int) -> None:
    assert 1 - 1e-9 <= expected_tokens(acceptance, n_guesses) <= n_guesses + 1 + 1e-9


def test_good_guesses_help_one_stream_and_bad_ones_do_not() -> None:
    """One stream waits for memory, so that checking more tokens is almost free."""
    plain = served(load_of(concurrency=1), cluster=ONE, model=MIDDLE).figures
    good, bad = (
        served(
            load_of(concurrency=1),
            cluster=ONE,
            model=MIDDLE,
            speculation=Speculation(n_guesses=4, acceptance=a, draft=TINY),
        )
        for a in (0.9, 0.0)
    )
    assert good.figures.tpot_s.value < plain.tpot_s.value < bad.figures.tpot_s.value
    assert good.figures.usd_per_mtok_output.value < plain.usd_per_mtok_output.value
    assert good.speculated is not None
    assert good.speculated.tokens_per_step == pytest.approx((1 - 0.9**5) / 0.1)
    assert good.bill.line(Phase.DRAFT).usage.chip_s > 0
    assert good.bill.usage.total.chip_s == pytest.approx(86400)


def test_shares_still_add_up_and_a_rate_is_still_met() -> None:
    guesses = Speculation(n_guesses=3, acceptance=0.7, draft_step_frac=0.05)
    plan = served(load_of(requests_per_s=2.0), cluster=ONE, speculation=guesses)
    shares = plan.shares
    assert shares.input + shares.cached_input + shares.output == pytest.approx(1)
    assert plan.served.answers_per_s == pytest.approx(2.0, rel=1e-3)


def test_what_cannot_be_is_one_line() -> None:
    with pytest.raises(SpecError, match="leaves no room"):
        served(load_of(concurrency=1), cluster=ONE, speculation=Speculation(n_guesses=2, acceptance=0.5, draft=BIG))
    with pytest.raises(SpecError, match="acceptance=2"):
        Speculation(n_guesses=2, acceptance=2.0)
    with pytest.raises(SpecError, match="n_guesses=0"):
        Speculation(n_guesses=0, acceptance=0.5)
    capacity = served(load_of(), cluster=ONE).served.capacity_per_s
    useless = Speculation(n_guesses=16, acceptance=0.0, draft=TINY)
    with pytest.raises(SpecError, match=r"saturates 1 instance.*speculate less"):
        served(load_of(requests_per_s=0.95 * capacity), cluster=ONE, speculation=useless)
