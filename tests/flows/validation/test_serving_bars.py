"""The serving forecasts against published measurements, where the shared data is at hand: the accuracy we state."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.shared_data import FOLDER, needs_shared_data
from tests.shared_data import rows as shared_rows
from twobills.flows.validation.document import validate_serving_file, validation_document
from twobills.specs.serving_calibration import published_serving_calibration

pytestmark = needs_shared_data
MEASURED, MORE = "inference_measured.csv", "inference_more.csv"


@cache
def validated(name: str) -> dict[str, Any]:
    return validation_document(validate_serving_file(FOLDER / name, published_serving_calibration()))


def median_error(name: str, **chosen: Any) -> float:
    """Of the rows whose fields are these; there must be enough of them to mean something."""
    rows = [row for row in validated(name)["rows"] if all(row[key] == value for key, value in chosen.items())]
    assert len(rows) >= 100, chosen
    return float(median(abs(row["forecast"]["value"] / row["measured"] - 1) for row in rows))


@pytest.mark.parametrize("name", [MEASURED, MORE])
def test_nearly_all_rows_that_say_enough_are_forecast(name: str) -> None:
    found = validated(name)
    assert found["n_predicted"] >= 0.9 * found["n_eligible"] > 1000
    assert found["kind"] == "serving"


def test_throughput_and_latency_of_the_common_tables() -> None:
    found = validated(MEASURED)
    assert found["mean_of_source_medians"] <= 0.20
    assert abs(found["bias"]) <= 0.05
    assert 0.85 <= found["coverage_90"] <= 0.97


def test_tensorrts_full_queues() -> None:
    assert median_error(MEASURED, engine="tensorrt", manner="queued") <= 0.15


def test_llama_cpps_decoding_of_one_sequence() -> None:
    assert median_error(MEASURED, engine="native", manner="decode", concurrency=1.0) <= 0.15


def test_latency_on_recent_chips() -> None:
    assert median_error(MORE, unit="tpot_s") <= 0.15
    assert median_error(MORE, unit="ttft_s") <= 0.30


@pytest.mark.parametrize(
    ("lengths", "printed"),
    [(("128", "128"), 27_900), (("1000", "1000"), 17_700)],
)
def test_llama_3_1_8b_fp8_on_one_h200_by_tensorrt(lengths: tuple[str, str], printed: float) -> None:
    """The rows are those figures, and their forecasts are within 25 % of them."""
    prompt, answer = map(float, lengths)
    rows = [
        row
        for row in validated(MEASURED)["rows"]
        if "Llama 3.1 8B" in row["model"]
        and (row["chip"], row["n_chips"], row["weights"]) == ("h200-sxm", 1, "fp8")
        and (row["manner"], row["prompt_tokens"], row["answer_tokens"]) == ("queued", prompt, answer)
    ]
    assert any(row["measured"] == pytest.approx(printed, rel=0.01) for row in rows)
    assert all(row["forecast"]["value"] == pytest.approx(printed, rel=0.25) for row in rows)


@pytest.mark.parametrize("name", [MEASURED, MORE])
def test_no_forecast_looks_at_what_was_measured(name: str, tmp_path: Path) -> None:
    """Doubled values leave every forecast and its interval as they were."""
    rows = [{**row, "value": str(2 * float(row["value"]))} for row in shared_rows(name)]
    path = tmp_path / name
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    changed = validation_document(validate_serving_file(path, published_serving_calibration()))
    for ours, theirs in zip(validated(name)["rows"], changed["rows"], strict=True):
        assert theirs["measured"] == pytest.approx(2 * ours["measured"])
        assert ours["forecast"] == theirs["forecast"], ours["model"]
