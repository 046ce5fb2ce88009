"""The figures of a set of forecasts, on errors that can be worked out by hand."""

from __future__ import annotations

import pytest

from twobills.flows.validation.score import Scored, score, score_by, within


def scored(forecast: float, *, source: str = "a", spread: float = 0.1) -> Scored:
    return Scored(
        source=source,
        name="model",
        chip="chip",
        n_chips=8,
        forecast=forecast,
        p5=forecast * (1 - spread),
        p95=forecast * (1 + spread),
        measured=100.0,
        detail={},
    )


def test_median_ninetieth_percentile_bias_and_coverage() -> None:
    rows = [scored(100.0 + error) for error in (-20, -10, 0, 10, 30)]
    found = score(rows)
    assert found.n == 5
    assert found.median_abs_rel_error == pytest.approx(0.10)
    assert found.p90_abs_rel_error == pytest.approx(0.26)
    assert found.bias == 0.0
    # 80 +- 8 and 130 +- 13 do not hold 100; 90 +- 9 does not; 100 and 110 +- 11 do.
    assert found.coverage_90 == pytest.approx(2 / 5)


def test_each_group_is_scored_by_itself() -> None:
    found = score_by([scored(110.0, source="b"), scored(90.0), scored(80.0)], "source")
    assert list(found) == ["a", "b"]
    assert found["a"].n == 2
    assert found["a"].bias == pytest.approx(-0.15)
    assert found["b"].bias == pytest.approx(0.1)


def test_within_a_factor_counts_both_ways() -> None:
    rows = [scored(100.0), scored(149.0), scored(67.0), scored(151.0), scored(40.0)]
    assert within(rows, 1.5) == pytest.approx(3 / 5)
    assert within(rows, 2.5) == 1.0
