"""The fit: it recovers the numbers that made the rows, keeps what the rows do not speak of, and stays physical."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import numpy as np
import pytest

from twobills.flows.calibrate import AT_MOST, fit, forecasts, sample
from twobills.flows.validation.left_out import family_of, left_out, log_sigma, source_of
from twobills.flows.validation.refit import to_toml
from twobills.flows.validation.rows import ThroughputRow
from twobills.flows.validation.throughput import forecast_row
from twobills.plan.space import Fixed
from twobills.specs import catalog
from twobills.specs.calibration import FITTED, Calibration, flatten, published_calibration, unflatten
from twobills.specs.cluster import ClusterSpec
from twobills.specs.parallel import Recompute, Stack, Zero

pytest.importorskip("scipy", reason="fitting needs the extra [fit]")
TRUTH = replace(
    published_calibration(),
    matmul_frac={"ampere": 0.70, "hopper": 0.60, "blackwell": 0.55},
    attention_frac={"ampere": 0.40, "hopper": 0.25},
)


def made_row(model: str, chip: str, n_chips: int, seq_len: int, micro: int, truth: Calibration) -> ThroughputRow:
    """A row whose measurement is the forecast under ``truth``."""
    row = ThroughputRow(
        source=f"{model} on {chip}",
        name=model,
        model=replace(catalog.model(model), max_seq_len=131_072),
        cluster=ClusterSpec(chip=catalog.chip(chip), n_chips=n_chips),
        seq_len=seq_len,
        global_batch=4 * micro * n_chips,
        fixed=Fixed(tp=1, pp=1, cp=1, zero=Zero.PARAMETERS, micro_batch=micro, recompute=Recompute.NONE),
        stack=Stack.EAGER,
        fp8=False,
        tokens_per_s_per_chip=1.0,
    )
    return replace(row, tokens_per_s_per_chip=float(forecasts([sample(row, truth)], truth)[0]))


def made_rows(truth: Calibration) -> list[ThroughputRow]:
    return [
        made_row(model, chip, n_chips, seq_len, micro, truth)
        for model in ("tinyllama-1.1b", "llama-2-7b")
        for chip in ("a100-sxm-80gb", "h100-sxm")
        for n_chips, seq_len, micro in ((8, 2048, 8), (64, 2048, 4), (8, 16384, 1), (8, 32768, 1))
    ]


def test_the_fit_recovers_the_calibration_that_made_the_rows() -> None:
    rows = made_rows(TRUTH)
    found = fit(rows, published_calibration())
    errors = [forecast_row(row, found).error for row in rows]
    assert np.median(np.abs(errors)) < 0.01, "what is plausible pulls a little against what the rows say"
    assert max(map(abs, errors)) < 0.08
    for family in ("ampere", "hopper"):
        assert found.matmul_frac[family] == pytest.approx(TRUTH.matmul_frac[family], rel=0.08)
        assert found.attention_frac[family] == pytest.approx(TRUTH.attention_frac[family], rel=0.12)


def test_fractions_stay_fractions_and_every_number_is_fitted_by_name() -> None:
    impossible = [replace(row, tokens_per_s_per_chip=5 * row.tokens_per_s_per_chip) for row in made_rows(TRUTH)[:4]]
    found = flatten(fit(impossible, published_calibration()))
    assert all(value <= AT_MOST + 1e-9 for name, value in found.items() if "_frac" in name or "overlap" in name)
    assert {name.partition(".")[0] for name in found} == set(FITTED)


def test_rows_are_timed_together_as_alone() -> None:
    rows = made_rows(TRUTH)[:5]
    together = forecasts([sample(row, TRUTH) for row in rows], TRUTH)
    alone = [forecast_row(row, TRUTH).forecast for row in rows]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_a_group_left_out_is_forecast_without_its_rows() -> None:
    rows = made_rows(TRUTH)[:8]
    wrong = [replace(row, tokens_per_s_per_chip=2 * row.tokens_per_s_per_chip) for row in rows[:4]]
    scored = left_out([*wrong, *rows[4:]], TRUTH, source_of)
    assert len(scored) == 8
    of_wrong = [row.error for row in scored if row.source == wrong[0].source]
    assert all(error < -0.3 for error in of_wrong), "its own rows cannot have pulled the fit towards them"


def test_a_family_left_out_gets_the_mean_of_the_others() -> None:
    rows = [row for row in made_rows(TRUTH) if row.cluster.chip.family == "hopper"]
    scored = left_out(
        [*rows, *[r for r in made_rows(TRUTH) if r.cluster.chip.family == "ampere"][:4]], TRUTH, family_of
    )
    assert all(np.isfinite(row.forecast) for row in scored)
    assert {row.chip for row in scored} == {"h100-sxm", "a100-sxm-80gb"}


def test_log_sigma_covers_nine_in_ten() -> None:
    row = forecast_row(made_rows(TRUTH)[0], TRUTH)
    rng = np.random.default_rng(0)
    noisy = [row._replace(measured=row.forecast * factor) for factor in np.exp(rng.normal(0, 0.1, 2000))]
    assert log_sigma(noisy) == pytest.approx(0.1, rel=0.05)


def test_the_file_that_is_written_reads_back_as_the_calibration() -> None:
    text = to_toml(TRUTH)
    row = tomllib.loads(text)["training"]
    again = Calibration(**row)
    for name, value in flatten(TRUTH).items():
        assert flatten(again)[name] == pytest.approx(value, rel=1e-3)
    assert (again.run_low, again.run_high) == pytest.approx((TRUTH.run_low, TRUTH.run_high), rel=1e-3)
    assert Calibration(**unflatten(flatten(TRUTH), TRUTH)) == TRUTH
