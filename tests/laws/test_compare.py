from __future__ import annotations

import pytest

from tests.laws import chinchilla
from tests.shared_data import needs_shared_data
from twobills.laws.compare import compare
from twobills.laws.published import published_law


@needs_shared_data
@pytest.mark.parametrize(
    ("name", "log_likelihood"),
    [("hoffmann-2022-rounded", 562.25), ("hoffmann-2022", 837.78), ("besiroglu-2024", 879.77)],
)
def test_the_replications_likelihoods(name: str, log_likelihood: float) -> None:
    """Besiroglu et al. 2024, notebook: log-likelihoods of the 240 points."""
    found = compare(chinchilla.runs(), chinchilla.best().law, published_law(name))
    assert found.log_likelihood == pytest.approx(log_likelihood, abs=0.05)


@needs_shared_data
def test_hoffmanns_law_is_rejected_and_its_rounding_beyond_doubt() -> None:
    """Rounded p < 1e-100; unrounded 1.22e-16 (likelihood ratio 84.00 from their optimum)."""
    law = chinchilla.best().law
    assert compare(chinchilla.runs(), law, published_law("hoffmann-2022-rounded")).p_value < 1e-100
    unrounded = compare(chinchilla.runs(), law, published_law("hoffmann-2022"))
    assert unrounded.statistic == pytest.approx(84.00, abs=0.5)
    assert unrounded.p_value == pytest.approx(1.22e-16, rel=0.3)


@needs_shared_data
def test_the_replication_is_not_rejected() -> None:
    assert compare(chinchilla.runs(), chinchilla.best().law, published_law("besiroglu-2024")).p_value > 0.5
