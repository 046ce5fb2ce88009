from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import CatalogError, SpecError
from twobills.laws.forms import loss
from twobills.laws.published import published_law
from twobills.laws.repeats import REPEAT_DECAY_EPOCHS, effective_tokens

BESIROGLU = published_law("besiroglu-2024")


@pytest.mark.parametrize(
    ("n_params", "n_tokens", "expected"),
    [(280e9, 300e9, 1.9991), (70e9, 1.4e12, 1.9734), (175e9, 300e9, 2.0080)],
    ids=["Gopher", "Chinchilla", "GPT-3"],
)
def test_the_replications_losses(n_params: float, n_tokens: float, expected: float) -> None:
    """Besiroglu et al. 2024: losses of known models under their fit, recomputed from the published constants."""
    assert loss(BESIROGLU, n_params, n_tokens) == pytest.approx(expected, abs=5e-5)


@given(st.floats(1e6, 1e12), st.floats(1e6, 1e14))
def test_more_parameters_or_more_data_is_never_worse(n_params: float, n_tokens: float) -> None:
    assert loss(BESIROGLU, 2 * n_params, n_tokens) <= loss(BESIROGLU, n_params, n_tokens)
    assert loss(BESIROGLU, n_params, 2 * n_tokens) <= loss(BESIROGLU, n_params, n_tokens)


def test_a_law_knows_its_range() -> None:
    assert BESIROGLU.in_range(1e9)
    assert not BESIROGLU.in_range(1e6)


def test_nothing_has_no_loss() -> None:
    with pytest.raises(SpecError, match="n_tokens=0: must be above 0"):
        loss(BESIROGLU, 1e9, 0)
    with pytest.raises(CatalogError, match="law 'moore': not in the catalogue"):
        published_law("moore")


@given(st.floats(1, 1e12), st.floats(1e3, 1e12))
def test_repeats_teach_less_than_new_text(n_tokens: float, n_unique: float) -> None:
    worth = effective_tokens(n_tokens, n_unique)
    assert worth <= n_tokens * (1 + 1e-9)
    assert worth <= n_unique * (1 + REPEAT_DECAY_EPOCHS) * (1 + 1e-9)


def test_four_epochs_are_almost_as_good_as_new() -> None:
    """Muennighoff et al. 2023: up to four epochs, repeated data is almost as good as new."""
    assert effective_tokens(4e9, 1e9) / 4e9 > 0.9
    assert effective_tokens(40e9, 1e9) / 40e9 < 0.5
