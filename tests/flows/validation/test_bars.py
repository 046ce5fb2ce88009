"""The forecasts against published measurements, where the shared data folder is at hand: the accuracy that we state."""

from __future__ import annotations

from typing import Any

import pytest

from tests.shared_data import FOLDER, needs_shared_data
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


def test_no_forecast_looks_at_what_was_measured(tmp_path: Any) -> None:
    """Every measured column doubled leaves each forecast as it was."""
    import csv

    for name, measured in (
        ("mfu_tables.csv", ("mfu", "hfu", "tflops_per_chip", "tokens_per_s_total", "tokens_per_s_per_chip")),
        ("training_runs.csv", ("chip_hours", "mfu_reported", "hfu_reported", "energy_mwh", "cost_usd")),
    ):
        with (FOLDER / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            for key in measured:
                row[key] = str(2 * float(row[key])) if row[key] else ""
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        changed = validation_document(validate_file(path, published_calibration()))
        as_it_was = validated(name)
        for ours, theirs in zip(as_it_was["rows"], changed["rows"], strict=True):
            assert ours["forecast"] == theirs["forecast"], ours["model"]
