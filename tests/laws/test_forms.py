from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import SpecError
from twobills.laws.forms import Law, draws, law_of, log_parameters, loss, outside_words
from twobills.laws.published import published_law

BESIROGLU = published_law("besiroglu-2024")
BUSBRIDGE = published_law("busbridge-2025-supervised")


@pytest.mark.parametrize(
    ("n_params", "n_tokens", "expected"),
    [(280e9, 300e9, 1.9933), (70e9, 1.4e12, 1.9366), (175e9, 300e9, 2.0023)],
    ids=["Gopher", "Chinchilla", "GPT-3"],
)
def test_hoffmanns_printed_law(n_params: float, n_tokens: float, expected: float) -> None:
    """Hoffmann et al. 2022, equation 10: losses that its printed constants give."""
    assert loss(published_law("hoffmann-2022-rounded"), n_params, n_tokens) == pytest.approx(expected, abs=5e-5)


def test_de_vries_loss() -> None:
    """De Vries' notebook: loss(40e9, 1e12)."""
    assert loss(published_law("de-vries-2023"), 40e9, 1e12) == pytest.approx(1.8963581331, abs=1e-10)


def test_busbridges_outer_exponent() -> None:
    """Busbridge et al. 2025, table 6: losses of the supervised law, recomputed from its constants."""
    assert loss(BUSBRIDGE, 1.82e9, 36.4e9) == pytest.approx(2.2509, abs=5e-4)
    assert loss(BUSBRIDGE, 0.546e9, 100e9) == pytest.approx(2.3238, abs=5e-4)
    assert BUSBRIDGE.a == pytest.approx(0.513, abs=1e-3)


@given(st.floats(1e6, 1e12), st.floats(1e6, 1e14), st.sampled_from([BESIROGLU, BUSBRIDGE]))
def test_no_model_is_better_than_the_irreducible_loss(n_params: float, n_tokens: float, law: Law) -> None:
    assert loss(law, n_params, n_tokens) > law.E


def test_draws_scatter_as_the_covariance_says() -> None:
    """The replication prints standard errors of .0257 for E, .0154 for alpha and .0206 for beta."""
    laws = draws(BESIROGLU, 4000)
    for name, printed in (("E", 0.02566), ("alpha", 0.01540), ("beta", 0.02060)):
        values = [getattr(law, name) for law in laws]
        mean = sum(values) / len(values)
        assert math.sqrt(sum((x - mean) ** 2 for x in values) / len(values)) == pytest.approx(printed, rel=0.1)
    assert draws(published_law("hoffmann-2022")) == []


def test_log_parameters_come_back() -> None:
    again = law_of(log_parameters(BESIROGLU), BESIROGLU)
    assert log_parameters(again) == pytest.approx(log_parameters(BESIROGLU), rel=1e-12)


def test_outside_its_range_a_law_says_so() -> None:
    assert outside_words(BESIROGLU, 1e9, 1e11) is None
    words = outside_words(BESIROGLU, 1.75e11, 1e13)
    assert words == (
        "outside what besiroglu-2024 was fitted on: 175B parameters are above the most, 16.5B and "
        "10.0T tokens are above the most, 320B"
    )


def test_a_law_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(SpecError, match="beta=-1: must be a number above 0"):
        Law(name="odd", E=1, A=1, B=1, alpha=1, beta=-1)
    with pytest.raises(SpecError, match="covariance: must be 5 x 5"):
        Law(name="odd", E=1, A=1, B=1, alpha=1, beta=1, covariance=((1.0,),))
    with pytest.raises(SpecError, match="n_tokens=nan: must be above 0"):
        loss(BESIROGLU, 1e9, math.nan)
