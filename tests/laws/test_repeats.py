"""Muennighoff et al. 2023, against the outputs that its repository prints."""

from __future__ import annotations

import numpy as np
import pytest

from twobills.errors import SpecError
from twobills.laws.published import published
from twobills.laws.repeats import DataConstrainedLaw, data_constrained_loss, effective_tokens, tokens_when_repeated


def law() -> DataConstrainedLaw:
    found = published("muennighoff-2023").law
    assert isinstance(found, DataConstrainedLaw)
    return found


@pytest.mark.parametrize(
    ("n_params", "n_tokens", "expected"),
    [(6.34e9, 242e9, 2.2256440889984477), (8.67e9, 178e9, 2.2269634075087867)],
)
def test_the_two_printed_losses(n_params: float, n_tokens: float, expected: float) -> None:
    """huggingface/datablations, README: 25B different tokens; the smaller model on more repeats wins."""
    assert data_constrained_loss(law(), n_params, n_tokens, 25e9) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("epochs", "worth_frac"), [(2, 0.984), (4, 0.931), (5, 0.904), (16, 0.661), (40, 0.379)])
def test_what_repeats_are_worth(epochs: float, worth_frac: float) -> None:
    """Share of as many new tokens, recomputed from R* = 15.387756."""
    assert effective_tokens(epochs * 1e9, 1e9) / (epochs * 1e9) == pytest.approx(worth_frac, abs=5e-4)


def test_new_data_is_never_worse_than_repeats() -> None:
    few, many = (data_constrained_loss(law(), 1e9, 100e9, unique) for unique in (10e9, 100e9))
    assert many < few
    with pytest.raises(SpecError, match="n_unique=0"):
        data_constrained_loss(law(), 1e9, 1e9, 0)


def test_the_printed_losses_take_the_printed_tokens() -> None:
    """The same two rows the other way round."""
    for n_params, n_tokens, printed in ((6.34e9, 242e9, 2.2256440889984477), (8.67e9, 178e9, 2.2269634075087867)):
        needed = tokens_when_repeated(law().law, np.array([n_params]), printed, 25e9, law())
        assert needed[0] == pytest.approx(n_tokens, rel=1e-4)


def test_repeats_have_a_limit() -> None:
    """25B tokens repeated for ever are worth 16.4 times as many: what takes more is out of reach."""
    needed = tokens_when_repeated(law().law, np.array([6.34e9]), 2.2, 25e9, law())
    assert np.isfinite(tokens_when_repeated(law().law, np.array([6.34e9]), 2.2, 1e14, law())).all()
    assert np.isinf(tokens_when_repeated(law().law, np.array([6.34e9]), 2.1, 5e9, law())).all()
    assert needed[0] > 242e9
    with pytest.raises(SpecError, match="n_unique=0"):
        tokens_when_repeated(law().law, np.array([6.34e9]), 2.2, 0.0, law())
