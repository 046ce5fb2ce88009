"""What ``laws sweep`` says: every cell and curve has its row, and what is not known is a dash with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from twobills.report import sweep_tables as tables
from twobills.report.tables import Table

SUM = {"chip_s": 600.0, "total_usd": 0.01, "compute_flops": 5.1e12, "executed_flops": 6e12}
EXPECTED: dict[str, Any] = {
    "n_slots": 2,
    "budgets": [{"budget_flops": 1e12, "n_cells": 5, **SUM}, {"budget_flops": 3e12, "n_cells": 6, **SUM}],
    "total": {**SUM, "n_cells": 11, "chip_s": 1200.0, "wall_s": 600.0},
}
ROW: dict[str, Any] = {
    "budget_flops": 1e12,
    "d_model": 64,
    "n_layers": 2,
    "n_params": 131_000,
    "n_tokens": 1_100_000,
    "loss": 3.21456,
    "bits_per_byte": 1.98765,
    "epochs": 0.25,
    "chip_s": 61.4,
    "usd": 0.0021,
    "reason": None,
}
DIVERGED = {**ROW, "loss": None, "bits_per_byte": None, "epochs": None, "reason": "step 3: the loss is nan"}
INTERVAL = {"value": 200_000.0, "p5": 150_000.0, "p95": 260_000.0}
PREDICTION: dict[str, Any] = {
    "budget_flops": 3e12,
    "n_runs": 11,
    "surface": {
        "n_params": INTERVAL,
        "n_tokens": {"value": 2e6, "p5": None, "p95": None},
        "loss": {"value": 3.0, "p5": 2.9, "p95": 3.1},
    },
    "parabolas": {"n_params": 190_000.0, "n_tokens": 2.1e6, "a": 0.5},
}
BEST = {"n_params": 210_000.0, "n_tokens": 1.9e6, "loss": 3.05}
DOCUMENT: dict[str, Any] = {
    "cells": [ROW, {**ROW, "budget_flops": 3e12}],
    "curves": [
        {"budget_flops": 1e12, "minimum": "within", "parabola": BEST},
        {"budget_flops": 3e12, "minimum": "below", "parabola": None},
    ],
    "prediction": PREDICTION,
    "result": {"lowest_run": {**BEST, "loss": 3.06}, "parabola": None, "reason": "no minimum lies between the sizes"},
}


def full(table: Table) -> Table:
    """The table, every row of which has every column."""
    assert table.rows
    assert {len(row) for row in table.rows} == {len(table.columns)}
    return table


def test_the_bill_is_said_and_shown_by_budget() -> None:
    words = tables.expected_sentence(EXPECTED)
    assert words.startswith("11 cells, 2 at a time, should take 10 min")
    assert "20 min" in words
    table = full(tables.expected_table(EXPECTED))
    assert [row[0] for row in table.rows] == ["1e+12", "3e+12", "all"]
    assert [row[1] for row in table.rows] == ["5", "6", "11"]
    assert table.has_total


def test_every_cell_has_a_row_and_a_line() -> None:
    table = full(tables.cells_table(DOCUMENT))
    assert [row[:2] for row in table.rows] == [("1e+12", "d64-l2"), ("3e+12", "d64-l2")]
    assert "3.2146" in table.rows[0]
    line = tables.cell_line(ROW)
    assert "d64-l2" in line
    assert "loss 3.2146" in line
    assert "\n" not in line


def test_a_cell_that_diverged_says_why_and_what_it_cost() -> None:
    line = tables.cell_line(DIVERGED)
    assert line.startswith("1e+12 FLOPs, d64-l2: diverged (step 3: the loss is nan), 1 min 01 s, $0.0021")
    assert line.endswith("; it is left out of the fit")
    table = full(tables.cells_table({**DOCUMENT, "cells": [ROW, DIVERGED]}))
    assert table.columns[-1] == "Diverged"
    assert [row[-1] for row in table.rows] == ["", "step 3: the loss is nan"]
    assert table.rows[1][4:7] == (tables.NONE,) * 3
    assert "Diverged" not in tables.cells_table(DOCUMENT).columns


def test_a_budget_whose_sizes_all_diverged_has_rows_of_dashes() -> None:
    nothing = {"lowest_run": None, "parabola": None, "reason": "all sizes diverged"}
    (row,) = full(tables.curves_table({"curves": [{"budget_flops": 1e12, "minimum": "unclear", **nothing}]})).rows
    assert row == ("1e+12", "unclear", *(tables.NONE,) * 3)
    table = tables.prediction_table({**DOCUMENT, "result": nothing})
    assert table is not None
    assert {row[-1] for row in full(table).rows} == {tables.NONE}


def test_a_curve_without_a_minimum_says_where_it_lies_and_no_size() -> None:
    closed, opened = full(tables.curves_table(DOCUMENT)).rows
    assert closed[1] == "within"
    assert closed[-1] == "3.0500"
    assert opened == ("3e+12", "below", tables.NONE, tables.NONE, tables.NONE)


def test_the_prediction_is_said_with_its_interval_or_why_there_is_none() -> None:
    words = tables.prediction_sentence(PREDICTION)
    assert "3e+12 FLOPs from 11 runs" in words
    assert "loss 3.0000 (2.9000 to 3.1000)" in words
    nothing = {**PREDICTION, "surface": None, "reason": "5 runs do not determine 5 constants"}
    assert tables.prediction_sentence(nothing).endswith("5 runs do not determine 5 constants")
    assert tables.prediction_table({**DOCUMENT, "prediction": nothing}) is None
    assert tables.prediction_table({**DOCUMENT, "prediction": None}) is None


@pytest.mark.parametrize("parabola", [None, BEST], ids=["open", "within"])
def test_prediction_stands_beside_what_was_found(parabola: dict[str, float] | None) -> None:
    table = tables.prediction_table({**DOCUMENT, "result": {**DOCUMENT["result"], "parabola": parabola}})
    assert table is not None
    rows = {row[0]: row[1:] for row in full(table).rows}
    assert rows["Loss"] == ("3.0000", "2.9000", "3.1000", tables.NONE, "3.0500" if parabola else tables.NONE, "3.0600")
    assert rows["Tokens"][1:3] == (tables.NONE, tables.NONE), "no bootstraps, no interval"
