"""Intervals hold their value, widen with the forecasts' errors, and are absent where the law has no covariance."""

from __future__ import annotations

import numpy as np
import pytest

from tests.plan.sizing import LAW, question
from twobills.laws.forms import draws
from twobills.laws.isoloss import laws_of
from twobills.laws.lifetime import lifetime_optimum
from twobills.laws.quality import Quality
from twobills.plan.interval import Spread
from twobills.plan.size import cheapest, ladder, size_table
from twobills.plan.size_bands import Band, band, demand_bands, dollar_bands, flop_bands, pays_from_tokens

LAWS = laws_of(draws(LAW, 400))
QUALITY = Quality(n_params=13e9)
CERTAIN, LOOSE = Spread(1.0, 1.0), Spread(0.5, 2.0)


def test_flop_bands_hold_the_best_size() -> None:
    target = float(QUALITY.target(LAW))
    best = lifetime_optimum(LAW, target, 1e13)
    found = flop_bands(LAWS, QUALITY, 1e13)
    for name in ("n_params", "n_tokens", "total_flops"):
        p5, p95 = found[name]
        assert p5 is not None
        assert p95 is not None
        assert p5 < getattr(best, name) < p95


def test_a_law_without_covariance_has_none() -> None:
    assert set(flop_bands(None, QUALITY, 1e13).values()) == {Band(None, None)}
    assert demand_bands(None, QUALITY, 8e9, 1e12)["pays_from_tokens"] == Band(None, None)


def test_dollar_bands_hold_the_best_and_widen_with_the_errors() -> None:
    asked = question(1e10)
    table = size_table(asked, ladder(LAW, asked.target_loss, 14))
    best = cheapest(table, [0])
    assert best is not None
    widths = []
    for spread in (CERTAIN, LOOSE):
        found = dollar_bands(table, [0], LAWS, QUALITY, spread, spread)
        p5, p95 = found["total_usd"]
        assert p5 is not None
        assert p95 is not None
        assert p5 <= best.total_usd <= p95
        widths.append(p95 / p5)
    assert widths[1] > 1.5 * widths[0]
    undrawn = dollar_bands(table, [0], None, QUALITY, LOOSE, LOOSE)
    assert undrawn["n_params"] == Band(None, None)
    assert undrawn["total_usd"].p5 is not None


def test_a_draw_without_a_figure_counts_as_endless() -> None:
    assert band(np.array([1.0, 2.0, np.nan])) == Band(1.0, None)


def test_the_longer_training_is_repaid_where_both_lives_cost_the_same() -> None:
    tokens = float(pays_from_tokens(8e9, 15e12, 34e9, 0.64e12))
    lives = [6 * n * d + 2 * n * tokens for n, d in ((8e9, 15e12), (34e9, 0.64e12))]
    assert lives[0] == pytest.approx(lives[1])
    assert np.isinf(pays_from_tokens(34e9, 1e12, 8e9, 1e12))
