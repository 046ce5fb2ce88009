"""As good as a model, as a size, as a loss: one target under one law, another under another."""

from __future__ import annotations

import pytest

from twobills.errors import SpecError
from twobills.laws.forms import draws, loss
from twobills.laws.isoloss import laws_of
from twobills.laws.optimum import optimum_for_loss, optimum_for_size
from twobills.laws.published import published_law
from twobills.laws.quality import Quality

LAW = published_law("besiroglu-2024")


def test_the_quality_of_a_model_is_its_loss() -> None:
    quality = Quality(n_params=8e9, n_tokens=15e12)
    assert float(quality.target(LAW)) == pytest.approx(loss(LAW, 8e9, 15e12))
    assert quality.reference(LAW) == (8e9, 15e12)


def test_the_quality_of_a_size_is_its_compute_optimal_loss() -> None:
    best = optimum_for_size(LAW, 13e9)
    quality = Quality(n_params=13e9)
    assert float(quality.target(LAW)) == pytest.approx(best.loss)
    assert quality.reference(LAW).n_tokens == pytest.approx(best.n_tokens)


def test_a_loss_is_a_loss_and_its_model_the_compute_optimal_one() -> None:
    quality = Quality(loss=2.1)
    assert float(quality.target(LAW)) == 2.1
    assert quality.reference(LAW).n_params == pytest.approx(optimum_for_loss(LAW, 2.1).n_params)


def test_each_drawn_law_has_its_own_target() -> None:
    drawn = draws(LAW, 10)
    targets = Quality(n_params=8e9, n_tokens=15e12).target(laws_of(drawn))
    assert targets.ravel()[4] == pytest.approx(loss(drawn[4], 8e9, 15e12))
    assert Quality(loss=2.1).target(laws_of(drawn)).shape == targets.shape


def test_one_of_the_three_is_given() -> None:
    for given in ({}, {"loss": 2.0, "n_params": 1e9}, {"loss": 2.0, "n_tokens": 1e9}):
        with pytest.raises(SpecError, match="quality: give parameters"):
            Quality(**given)
