"""Kaplan et al. 2020: what its numbers imply, and what Hoffmann's appendix D.4 says that it predicts."""

from __future__ import annotations

import pytest

from twobills.errors import SpecError
from twobills.laws.kaplan import CMIN_PER_C, PF_DAY_FLOPS, KaplanLaw, kaplan_loss, kaplan_optimal_params
from twobills.laws.published import published


def law() -> KaplanLaw:
    found = published("kaplan-2020").law
    assert isinstance(found, KaplanLaw)
    return found


def test_doubling_the_parameters() -> None:
    """With endless data, twice the parameters take the loss to 2^-0.076 = 0.949 of it (section 1.2)."""
    assert kaplan_loss(law(), 2e9, 1e30) / kaplan_loss(law(), 1e9, 1e30) == pytest.approx(0.949, abs=5e-4)


def test_ten_and_a_hundred_times_the_compute() -> None:
    """10x compute: 5.5x parameters (as Hoffmann et al. quote it); 100x: 28.8x."""
    base = kaplan_optimal_params(law(), 1e20)
    assert kaplan_optimal_params(law(), 1e21) / base == pytest.approx(5.5, rel=0.03)
    assert kaplan_optimal_params(law(), 1e22) / base == pytest.approx(28.8, rel=0.005)


def test_hoffmanns_reading_at_1e21() -> None:
    """Hoffmann et al. 2022, appendix D.4: 4.68B parameters at 1e21 FLOPs."""
    assert kaplan_optimal_params(law(), 1e21) == pytest.approx(4.68e9, rel=2e-3)
    assert kaplan_optimal_params(law(), PF_DAY_FLOPS / CMIN_PER_C) == pytest.approx(1.3e9)


def test_nothing_has_no_loss() -> None:
    with pytest.raises(SpecError, match="n_params=0"):
        kaplan_loss(law(), 0, 1e9)
    with pytest.raises(SpecError, match="compute_flops=-1"):
        kaplan_optimal_params(law(), -1)
