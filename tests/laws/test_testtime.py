from __future__ import annotations

import pytest

from twobills.errors import SpecError
from twobills.laws.published import published
from twobills.laws.testtime import CoverageLaw, coverage, coverage_through, matched_inference_factor, pass_at_k


def test_browns_two_points() -> None:
    """Brown et al. 2024: SWE-bench Lite with DeepSeek-Coder-V2, 15.9 % at one sample, 56 % at 250."""
    law = published("brown-2024-swe-bench-lite").law
    assert isinstance(law, CoverageLaw)
    assert coverage(law, 1) == pytest.approx(0.159, abs=5e-4)
    assert coverage(law, 250) == pytest.approx(0.56, abs=5e-4)
    through = coverage_through((1, 0.159), (250, 0.56))
    assert [through.a, through.b] == pytest.approx([law.a, law.b], abs=1e-3)


def test_brown_s_single_problem() -> None:
    """A problem solved with chance .05: 9.75 % with two samples, 99.4 % with a hundred; the estimate is unbiased."""
    n, right, k = 40, 2, 2
    assert pass_at_k(n, right, k) == pytest.approx(1 - (38 * 37) / (40 * 39))
    expected = sum(
        pass_at_k(3, c, 2) * chance
        for c, chance in enumerate((0.95**3, 3 * 0.05 * 0.95**2, 3 * 0.05**2 * 0.95, 0.05**3))
    )
    assert expected == pytest.approx(1 - 0.95**2)


@pytest.mark.parametrize(("ratio", "factor"), [(0.16, 257.75), (0.79, 63.4), (22, 15.8)])
def test_snells_factors(ratio: float, factor: float) -> None:
    """Snell et al. 2024, section 7, for a model 14 times larger: recomputed from its formula for its three ratios."""
    assert matched_inference_factor(14, ratio) == pytest.approx(factor, rel=2e-3)


def test_the_impossible_is_refused() -> None:
    with pytest.raises(SpecError, match="k=5"):
        pass_at_k(4, 1, 5)
    with pytest.raises(SpecError, match="both must rise"):
        coverage_through((1, 0.5), (10, 0.4))
    with pytest.raises(SpecError, match="n_samples=0"):
        coverage(CoverageLaw(name="x", a=-1, b=-1), 0)
    with pytest.raises(SpecError, match="size_factor=0"):
        matched_inference_factor(0, 1)
