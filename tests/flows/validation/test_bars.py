"""The forecasts against published measurements, where the shared data folder is at hand: the accuracy that we state."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from tests.shared_data import FOLDER, needs_shared_data
from tests.shared_data import rows as shared_rows
from twobills.flows.validation.document import validate_file, validation_document
from twobills.specs.calibration import published_calibration

pytestmark = needs_shared_data


def validated(name: str) -> dict[str, Any]:
    return validation_document(validate_file(FOLDER / name, published_calibration()))


def test_throughput_of_the_common_tables() -> None:
    found = validated("mfu_tables.csv")
    assert found["n_predicted"] >= 0.95 * found["n_eligible"] > 150
    assert found["median_abs_rel_error"] <= 0.08
    assert found["p90_abs_rel_error"] <= 0.20
    assert abs(found["bias"]) <= 0.03
    assert 0.85 <= found["coverage_90"] <= 0.97


def test_throughput_of_megatron_and_megascale() -> None:
    found = validated("mfu_tables_extra.csv")
    assert found["median_abs_rel_error"] <= 0.12
    by_source = {row["source"].split()[0]: row["median_abs_rel_error"] for row in found["by_source"]}
    assert by_source["Megatron-LM"] <= 0.12
    assert by_source["MegaScale"] <= 0.12


RUNS = ("Llama-3.1-405B", "Llama-2-7B", "Llama-2-70B", "BLOOM-176B", "GPT-NeoX-20B", "DeepSeek-V3")


@pytest.mark.parametrize("name", RUNS)
def test_hours_of_a_whole_run(name: str) -> None:
    row = next(row for row in validated("training_runs.csv")["rows"] if row["model"] == name)
    assert row["forecast"]["value"] == pytest.approx(row["measured"], rel=0.25)


def test_hours_of_all_verified_runs() -> None:
    found = validated("training_runs.csv")["within"]
    assert found["verified_with_mfu"]["share_within_1.5x"] >= 0.85
    assert found["verified_without_mfu"]["share_within_2.5x"] >= 0.85
    assert found["verified"]["coverage_90"] >= 0.85


def test_stated_degrees_are_taken_or_it_is_said_why_not() -> None:
    """GH200 with four to a node is not in the catalogue: there its fast links join one."""
    rows = {row["model"]: row["stated_degrees_dropped"] for row in validated("training_runs.csv")["rows"]}
    dropped = {name: reason for name, reason in rows.items() if reason}
    assert set(dropped) == {"Apertus-70B"}
    assert "wider than the fast links" in dropped["Apertus-70B"]


THROUGHPUT = ("mfu", "hfu", "tflops_per_chip", "tokens_per_s_total", "seqs_per_s", "tokens_per_s_per_chip")
OF_RUNS = ("mfu_reported", "hfu_reported", "wall_days", "energy_mwh", "cost_usd", "flops_reported", "chip_hours")


@pytest.mark.parametrize(
    ("name", "measured"),
    [("mfu_tables.csv", THROUGHPUT), ("mfu_tables_extra.csv", THROUGHPUT), ("training_runs.csv", OF_RUNS)],
)
def test_no_forecast_looks_at_what_was_measured(name: str, measured: tuple[str, ...], tmp_path: Path) -> None:
    """All measured columns blank but one, which says 1000 everywhere, leave each forecast as it was."""
    as_it_was = validated(name)
    forecast = {(row["source"], row["model"]) for row in as_it_was["rows"]}
    rows = [
        {**row, **dict.fromkeys((*measured, "wall_minutes"), ""), measured[-1]: "1000"}
        for row in shared_rows(name)
        if (row.get("source") or row.get("source_title"), row["model"]) in forecast
    ]
    path = tmp_path / name
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    changed = validation_document(validate_file(path, published_calibration()))
    assert {row["measured"] for row in changed["rows"]} == {1000}
    for ours, theirs in zip(as_it_was["rows"], changed["rows"], strict=True):
        assert ours["forecast"] == theirs["forecast"], ours["model"]
