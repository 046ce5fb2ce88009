"""The fit of the serving calibration finds again what made its rows, and writes a file that is read back."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from tests.flows.validation.test_serving_rows import forecastable
from tests.situations import CALIBRATION
from twobills.flows.calibrate_serving import PLAUSIBLE, fit_serving, left_out_serving, serving_toml
from twobills.flows.validation.serving import forecast_serving
from twobills.flows.validation.serving_rows import ServingRow
from twobills.specs.serving_calibration import FITTED, ServingCalibration, flatten

TRUE = replace(
    CALIBRATION,
    product_frac={**CALIBRATION.product_frac, "hopper": 0.45},
    bandwidth_frac={**CALIBRATION.bandwidth_frac, "server": 0.65},
)


def rows_of(source: str) -> list[ServingRow]:
    """Decoding and reading of two models on one chip."""
    one = {"n_chips": "1", "tp": "1", "precision_weights": "bf16", "engine_version": "0.10", "source_title": source}
    stated = [
        forecastable(**one, model=model, concurrency=batch, metric=metric, note="static batch")
        for model in ("Llama 3.1 8B", "Llama 3.2 3B")
        for batch in ("1", "64", "256")
        for metric in ("tpot_s", "ttft_s")
    ]
    return measured_by(stated, TRUE)


def measured_by(rows: list[ServingRow], calibration: ServingCalibration) -> list[ServingRow]:
    """Rows that measured just what a calibration forecasts."""
    scored = forecast_serving(rows, calibration)
    return [replace(row, measured=each.forecast) for row, each in zip(rows, scored, strict=True)]


ROWS = rows_of("one") + rows_of("other")


def test_a_fit_forecasts_the_rows_that_a_calibration_made() -> None:
    before = forecast_serving(ROWS, CALIBRATION)
    after = forecast_serving(ROWS, fit_serving(ROWS, CALIBRATION))
    assert max(abs(row.forecast / row.measured - 1) for row in before) > 0.2
    assert max(abs(row.forecast / row.measured - 1) for row in after) < 0.05


def test_a_source_that_is_left_out_is_forecast_by_the_others() -> None:
    scored = left_out_serving(ROWS, CALIBRATION)
    assert len(scored) == len(ROWS)
    assert max(abs(row.forecast / row.measured - 1) for row in scored) < 0.05


def test_no_fraction_passes_one_whatever_the_rows_say() -> None:
    impossible = [replace(row, measured=row.measured / 10) for row in ROWS]
    found = flatten(fit_serving(impossible, CALIBRATION))
    fractions = {name: value for name, value in found.items() if "_frac" in name and "memory" not in name}
    assert max(fractions.values()) < 1


def test_the_file_is_read_back_to_four_digits() -> None:
    text = serving_toml(TRUE)
    read = ServingCalibration(**tomllib.loads(text)["serving"])
    assert flatten(read) == pytest.approx(flatten(TRUE), rel=1e-3)
    assert (read.source, read.as_of) == (TRUE.source, TRUE.as_of)
    assert read.log_sigma == pytest.approx(TRUE.log_sigma, rel=1e-3)
    assert f"{len(flatten(TRUE))} numbers" in text


def test_every_fitted_number_has_a_plausible_value_before_any_row() -> None:
    assert set(PLAUSIBLE) == set(FITTED)
    assert all(value > 0 and spread > 0 for value, spread in PLAUSIBLE.values())
