"""``twobills validate inference`` as a user meets it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.flows.validation.test_serving_rows import STATED
from twobills.cli.app import app

runner = CliRunner()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two rows that can be forecast, one that says too little, one of an unknown model."""
    rows = [STATED, {**STATED, "metric": "ttft_s", "value": "0.1"}, {**STATED, "isl": ""}, {**STATED, "model": "X 3B"}]
    path = tmp_path / "served.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(STATED))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_json_has_the_keys_of_validate_training(table: Path) -> None:
    done = runner.invoke(app, ["validate", "inference", str(table), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert (found["kind"], found["n_rows"], found["n_eligible"], found["n_predicted"]) == ("serving", 4, 3, 2)
    assert {"median_abs_rel_error", "mean_of_source_medians", "p90_abs_rel_error", "bias", "coverage_90"} <= set(found)
    assert [row["unit"] for row in found["rows"]] == ["output_tokens_per_s", "ttft_s"]
    for row in found["rows"]:
        assert row["forecast"]["p5"] < row["forecast"]["value"] < row["forecast"]["p95"]
    reasons = {row["model"]: row["reason"] for row in found["skipped"]}
    assert reasons["Llama 3.1 8B"] == "the prompt length is not stated"
    assert "not in the catalogue" in reasons["X 3B"]


def test_the_screen_says_how_far_off_it_was_and_what_it_left_out(table: Path) -> None:
    done = runner.invoke(app, ["validate", "inference", str(table)])
    assert done.exit_code == 0, done.output
    assert "served.csv: 2 of 3 measured rows" in done.output
    assert "the prompt length is not stated" in done.output


def test_two_tables_are_no_one_document(table: Path) -> None:
    done = runner.invoke(app, ["validate", "inference", str(table), str(table), "--json"])
    assert done.exit_code != 0
    assert "prints one document, but 2 files are given" in str(done.exception)


def test_a_table_that_cannot_be_forecast_says_why(table: Path) -> None:
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([lines[0], lines[3]]) + "\n", encoding="utf-8")
    done = runner.invoke(app, ["validate", "inference", str(table)])
    assert done.exit_code != 0
    assert "none of its 1 rows can be forecast; the first: the prompt length is not stated" in str(done.exception)


def test_a_fit_is_written_as_the_file_that_the_package_reads(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="fits need SciPy, which comes with the extra `fit`")
    target = tmp_path / "fitted.toml"
    done = runner.invoke(app, ["validate", "inference", str(table), "--calibrate", str(target)])
    assert done.exit_code == 0, done.output
    assert target.read_text(encoding="utf-8").startswith("# What chips and engines achieve in serving")
