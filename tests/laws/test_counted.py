"""Where compute is 6ND after all, the counted optimum is the closed form's; attention makes it another."""

from __future__ import annotations

import numpy as np
import pytest

from twobills.laws.counted import counted_optimum, tokens_at
from twobills.laws.optimum import optimum
from twobills.laws.published import published_law

LAW = published_law("besiroglu-2024")
SIZES = np.geomspace(1e6, 1e12, 30)


@pytest.mark.parametrize("budget", [1e19, 1e21, 5.76e23])
def test_without_attention_it_is_hoffmanns_closed_form(budget: float) -> None:
    found, closed = counted_optimum(LAW, budget, SIZES, 6 * SIZES), optimum(LAW, budget)
    assert found.n_params == pytest.approx(closed.n_params, rel=0.02)
    assert found.n_tokens == pytest.approx(closed.n_tokens, rel=0.02)
    assert found.loss == pytest.approx(closed.loss, rel=1e-6)


def test_the_optimum_spends_the_budget_as_it_was_counted() -> None:
    per_token = 6 * SIZES + 1e7
    found = counted_optimum(LAW, 1e20, SIZES, per_token)
    assert found.n_tokens == pytest.approx(tokens_at(1e20, found.n_params, SIZES, per_token), rel=1e-9)
    assert found.n_tokens < 1e20 / 6 / found.n_params
    assert tokens_at(1e20, float(SIZES[3]), SIZES, per_token) == pytest.approx(1e20 / float(per_token[3]))
