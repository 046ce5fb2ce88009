from __future__ import annotations

from pathlib import Path
from typing import Any

from twobills.ledger.store import Ledger
from twobills.report.ledger_tables import (
    calibration_sentence,
    calibration_table,
    run_rows,
    runs_table,
    too_few_sentence,
)
from twobills.report.sentences import plan_sentence

MACHINE: dict[str, Any] = {
    "machine": {"name": "a CPU", "chip": "cpu-core", "n_chips": 2},
    "too_few": {"inference": 2},
    "min_runs": 3,
    "jobs": {
        "training": {
            "n_runs": 4,
            "slower": {"prepare": 1.6, "step": 1.25},
            "log_sigma": 0.15,
            "assumed_log_sigma": 0.2,
            "before": {"median_abs_rel_error": 0.25, "coverage_90": 0.5},
            "after": {"median_abs_rel_error": 0.05, "coverage_90": 1.0},
            "runs": [
                {
                    "run_id": "r1",
                    "measured_s": 20.0,
                    "before_s": 12.0,
                    "before_rel_error": -0.4,
                    "covered_before": False,
                    "after_s": 21.0,
                    "after_rel_error": 0.05,
                    "covered_after": True,
                }
            ],
        }
    },
}


def test_the_sentence_says_before_and_after() -> None:
    words = calibration_sentence(MACHINE, "training")
    assert "2 x cpu-core (a CPU) by 4 of its runs" in words
    assert "preparing the text 1.6, the steps 1.2" in words
    assert "missed by 5.00 % at the median instead of 25.0 %" in words
    assert "holds 4 of 4 instead of 2" in words


def test_a_forecast_outside_its_interval_is_marked() -> None:
    (row,) = calibration_table(MACHINE, "training").rows
    assert row == ("r1", "20.0 s", "12.0 s", "-40.0 % *", "21.0 s", "+5.00 %")


def test_what_is_not_calibrated_is_said() -> None:
    assert "inference has 2 of the 3 finished runs needed" in too_few_sentence(MACHINE)
    assert too_few_sentence({**MACHINE, "too_few": {}}) == ""


def test_a_plan_says_that_it_is_calibrated() -> None:
    figure = {"value": 1.0, "p5": 0.8, "p95": 1.2}
    part = {"wall_s": figure, "total_usd": figure, "calibration": None}
    calibrated = {**part, "calibration": {"n_runs": 4}}
    more = {**part, "calibration": {"n_runs": 5}}
    assert "calibrated" not in plan_sentence({"training": part, "inference": part})
    assert plan_sentence({"training": calibrated, "inference": calibrated}).endswith(
        "Both are calibrated on 4 runs of this machine."
    )
    assert plan_sentence({"training": calibrated, "inference": more}).endswith(
        "Calibrated on runs of this machine: training on 4 and inference on 5."
    )
    assert plan_sentence({"training": calibrated}).endswith("Calibrated on runs of this machine: training on 4.")


def test_a_metered_loop_is_listed_by_its_name(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.start("meter", {"name": "bigrams"})
    ledger.start("train", {})
    rows = run_rows(ledger)
    assert [row["name"] for row in rows] == [None, "bigrams"]
    assert [cells[1] for cells in runs_table(rows).rows] == ["train", "meter: bigrams"]
