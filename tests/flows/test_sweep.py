"""A sweep's cells run once each, whatever stops it; the largest budget is predicted before it is run.

Most of it with cells that train nothing: their losses come from a law that is known. One sweep is real.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.swept import TRUTH, Trained, stated, swept
from twobills.errors import BudgetError, DataError, RequestError, TwobillsError
from twobills.flows import sweep as flow
from twobills.flows import sweep_runner
from twobills.flows.laws_fit import FitRequest
from twobills.flows.laws_runs import csv_runs, ledger_runs
from twobills.flows.listener import Listener
from twobills.flows.sweep_cells import train_cell
from twobills.flows.sweep_process import Child, Slot
from twobills.jobs.training.guard import DivergedError, SpikeGuard
from twobills.ledger.record import Outcome, RecordKind
from twobills.ledger.store import Ledger
from twobills.plan.sweep import Cell
from twobills.specs.data import DataSpec
from twobills.specs.limits import Limits
from twobills.specs.sweep import SweepSpec
from twobills.usage import Job

BUDGETS = (1e12, 3e12, 1e13)
QUICK = FitRequest(n_bootstraps=20)
DIVERGING = 32
"""Its ``d_model``, of the real sweep."""


class Told(Listener):
    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, name: str) -> None:
        self.stages.append(name)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    return swept(monkeypatch)


@pytest.fixture
def spec(tmp_path: Path) -> SweepSpec:
    return SweepSpec(out=tmp_path / "sweep", budgets_flops=BUDGETS, workers=2)


def rows(spec: SweepSpec) -> list[dict[str, str]]:
    with (spec.out / "runs.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_curve_has_a_minimum_and_the_law_is_the_one_that_made_the_losses(
    spec: SweepSpec, trained: Trained, tmp_path: Path
) -> None:
    found = flow.run_sweep(spec, tmp_path / "l.sqlite", Listener(), fit=QUICK)
    assert [curve["minimum"] for curve in found["curves"]] == ["within"] * len(BUDGETS)
    assert found["fit"]["parameters"]["E"] == pytest.approx(TRUTH["E"], abs=0.02)
    assert found["fit"]["parameters"]["alpha"] == pytest.approx(TRUTH["alpha"], abs=0.02)
    assert found["expected"]["total"]["n_cells"] == 15
    assert found["measured"]["n_cells"] == len(trained.cells) == len(rows(spec))


def test_the_largest_budget_is_predicted_before_its_first_cell_and_lands_there(
    spec: SweepSpec, trained: Trained, tmp_path: Path
) -> None:
    found = flow.run_sweep(spec, tmp_path / "l.sqlite", Listener(), fit=QUICK)
    assert trained.before_last
    assert all(trained.before_last)
    predicted, seen = found["prediction"]["surface"], found["result"]["parabola"]
    assert predicted["loss"]["value"] == pytest.approx(seen["loss"], abs=0.01)
    assert predicted["n_params"]["value"] == pytest.approx(seen["n_params"], rel=0.25)
    ledger = Ledger(tmp_path / "l.sqlite")
    kept = [each.body for each in ledger.records(found["run_id"], RecordKind.RESULT)]
    assert kept[0]["expected"]["total"] == found["expected"]["total"]
    assert kept[1]["prediction"] == found["prediction"]


def test_a_sweep_that_was_interrupted_goes_on_and_runs_no_cell_twice(
    spec: SweepSpec, trained: Trained, tmp_path: Path
) -> None:
    ledger = tmp_path / "l.sqlite"
    for n in (3, 7, 12):
        trained.dies_after = n
        with pytest.raises(KeyboardInterrupt):
            flow.run_sweep(spec, ledger, Listener(), fit=QUICK)
        assert len(rows(spec)) == n
    trained.dies_after = 1000
    found = flow.run_sweep(spec, ledger, Listener(), fit=QUICK)
    names = [cell.name for cell in trained.cells]
    assert len(names) == len(set(names)) == found["measured"]["n_cells"]
    again = flow.run_sweep(spec, ledger, Listener(), fit=QUICK)
    assert len(trained.cells) == len(names), "all was done"
    assert again["fit"]["parameters"] == found["fit"]["parameters"]
    assert Ledger(ledger).outcome(found["run_id"]) is Outcome.DONE
    assert again["run_id"] == found["run_id"]


@pytest.mark.parametrize(
    ("changes", "n_cells"),
    [
        ({"max_cells": 4}, 4),
        ({"limits": Limits(max_flops=3.5e12)}, 3),
        ({"limits": Limits(max_seconds=0.1)}, 0),
        ({"limits": Limits(max_usd=1e-9)}, 0),
    ],
    ids=["cells", "flops", "seconds", "usd"],
)
def test_a_limit_ends_it_with_status_3_and_a_larger_one_goes_on(
    spec: SweepSpec, trained: Trained, tmp_path: Path, changes: dict[str, Any], n_cells: int
) -> None:
    limited = SweepSpec(out=spec.out, budgets_flops=BUDGETS, **changes)
    with pytest.raises(BudgetError, match="--max-") as raised:
        flow.run_sweep(limited, tmp_path / "l.sqlite", Listener(), fit=QUICK)
    assert raised.value.exit_status == 3
    assert "\n" not in str(raised.value)
    assert len(trained.cells) <= n_cells
    if "max_cells" not in changes:
        return
    with pytest.raises(BudgetError):
        flow.run_sweep(replace(limited, max_cells=6), tmp_path / "l.sqlite", Listener(), fit=QUICK)
    names = [cell.name for cell in trained.cells]
    assert len(names) == len(set(names)) == 6


def test_a_cell_that_fails_is_named_and_the_others_are_kept(spec: SweepSpec, trained: Trained, tmp_path: Path) -> None:
    trained.fails_at = "c3e+12-d64-l2"
    with pytest.raises(TwobillsError, match="cell c3e\\+12-d64-l2: the loss is no number"):
        flow.run_sweep(spec, tmp_path / "l.sqlite", Listener(), fit=QUICK)
    n_kept = len(rows(spec))
    trained.fails_at = ""
    flow.run_sweep(spec, tmp_path / "l.sqlite", Listener(), fit=QUICK)
    assert 0 < n_kept < len(rows(spec)) == len(trained.cells)


def test_another_sweep_in_the_same_folder_is_refused(spec: SweepSpec, trained: Trained, tmp_path: Path) -> None:
    flow.run_sweep(spec, tmp_path / "l.sqlite", Listener(), fit=QUICK, plan_only=True)
    assert not trained.cells
    with pytest.raises(RequestError, match=r"--sizes 6: the sweep in .* was begun with 5"):
        flow.run_sweep(
            SweepSpec(out=spec.out, budgets_flops=BUDGETS, n_sizes=6), tmp_path / "l.sqlite", Listener(), fit=QUICK
        )


@pytest.mark.usefixtures("trained")
def test_laws_fit_reads_the_table_and_the_ledger_alike(spec: SweepSpec, tmp_path: Path) -> None:
    flow.run_sweep(spec, tmp_path / "l.sqlite", Listener(), fit=QUICK)
    table, kept = csv_runs(spec.out / "runs.csv"), ledger_runs(Ledger(tmp_path / "l.sqlite"))
    for name in ("n_params", "n_tokens", "compute_flops", "loss"):
        assert sorted(getattr(table, name)) == pytest.approx(sorted(getattr(kept, name)))


DIVERGES: dict[str, Callable[[Cell], bool]] = {
    "in the middle": lambda cell: cell.name == "c3e+12-d64-l2",
    "at the edge": lambda cell: cell.name == "c1e+12-d32-l2",
    "all sizes of the smallest budget": lambda cell: cell.budget_flops == BUDGETS[0],
    "all sizes of the largest budget": lambda cell: cell.budget_flops == BUDGETS[-1],
}


@pytest.mark.parametrize("where", DIVERGES)
def test_a_cell_that_diverges_is_told_and_billed_and_the_law_is_fitted_to_the_others(
    spec: SweepSpec, trained: Trained, tmp_path: Path, where: str
) -> None:
    trained.diverges = DIVERGES[where]
    found = flow.run_sweep(spec, tmp_path / "l.sqlite", Listener(), fit=QUICK)
    json.dumps(found, allow_nan=False)
    diverged = [row for row in found["cells"] if row["loss"] is None]
    assert len(diverged) == found["measured"]["n_diverged"] == sum(map(trained.diverges, trained.cells)) > 0
    assert {row["reason"] for row in diverged} == {"step 3: the loss is nan"}
    assert all(row["reason"] is None for row in found["cells"] if row["loss"] is not None)
    ledger = Ledger(tmp_path / "l.sqlite")
    for row in diverged:
        assert row["usd"] == ledger.measured_bills(row["run_id"])[Job.TRAINING].total_usd > 0
    assert found["measured"]["total_usd"] == pytest.approx(sum(row["usd"] for row in found["cells"]))
    assert found["fit"]["n_runs"] == len(found["cells"]) - len(diverged)
    assert found["fit"]["parameters"]["E"] == pytest.approx(TRUTH["E"], abs=0.03)
    if seen := found["result"]["parabola"]:
        assert found["prediction"]["surface"]["loss"]["value"] == pytest.approx(seen["loss"], abs=0.03)
    assert found["fit"]["n_runs"] == len(csv_runs(spec.out / "runs.csv")) == len(ledger_runs(ledger))


def test_sizes_that_are_left_tell_their_budgets_minimum_and_none_at_all_tells_why(
    spec: SweepSpec, trained: Trained, tmp_path: Path
) -> None:
    trained.diverges = lambda cell: cell.budget_flops == BUDGETS[0] or cell.name == "c3e+12-d64-l2"
    told = Told()
    found = flow.run_sweep(spec, tmp_path / "l.sqlite", told, fit=QUICK)
    none, some, whole = found["curves"]
    assert (none["lowest_run"], none["parabola"], none["minimum"]) == (None, None, "unclear")
    assert none["reason"] == "all sizes diverged"
    assert some["minimum"] == whole["minimum"] == "within"
    assert [words for words in told.stages if "no minimum" in words] == [
        "At 1e+12 FLOPs no minimum was found: all 5 sizes diverged"
    ]


@pytest.mark.parametrize("where", DIVERGES)
def test_a_cell_that_diverged_is_not_trained_again(
    spec: SweepSpec, trained: Trained, tmp_path: Path, where: str
) -> None:
    trained.diverges = DIVERGES[where]
    ledger = tmp_path / "l.sqlite"
    for n in (4, 9, 13):
        trained.dies_after = n
        with pytest.raises(KeyboardInterrupt):
            flow.run_sweep(spec, ledger, Listener(), fit=QUICK)
        assert len(rows(spec)) == n
    trained.dies_after = 1000
    found = flow.run_sweep(spec, ledger, Listener(), fit=QUICK)
    names = [cell.name for cell in trained.cells]
    again = flow.run_sweep(spec, ledger, Listener(), fit=QUICK)
    assert len(trained.cells) == len(names) == len(set(names)) == found["measured"]["n_cells"]
    assert again["cells"] == found["cells"]
    assert again["fit"]["parameters"] == found["fit"]["parameters"]


def test_where_all_diverges_the_sweep_ends_with_a_table_and_no_law(
    spec: SweepSpec, trained: Trained, tmp_path: Path
) -> None:
    trained.diverges = lambda _: True
    found = flow.run_sweep(spec, tmp_path / "l.sqlite", Listener(), fit=QUICK)
    json.dumps(found, allow_nan=False)
    assert len(rows(spec)) == len(trained.cells) == 15, "beyond sizes that diverge no other is tried"
    assert found["prediction"]["surface"] is None
    assert found["result"]["reason"] == "all sizes diverged"
    assert found["fit"] == {"parameters": None, "reason": "0 of 15 cells have a loss: a law takes at least 4"}
    with pytest.raises(DataError, match="0 runs: a law takes at least 4"):
        csv_runs(spec.out / "runs.csv")


def failing(error: type[TwobillsError], words: str) -> None:
    raise error(words)


@pytest.mark.parametrize("error", [RequestError, DivergedError])
def test_a_childs_mistake_is_ours_to_tell(error: type[TwobillsError]) -> None:
    with pytest.raises(TwobillsError, match="no such thing") as raised:
        Child(failing, (error, "no such thing"), Slot(0)).result()
    assert type(raised.value) is error


def test_a_childs_death_is_ours_to_tell() -> None:
    with pytest.raises(TwobillsError, match="died"):
        Child(os_exit, (), Slot(0)).result()


def os_exit() -> None:
    os._exit(9)


def train_all_but_one(spec: SweepSpec, cell: Cell, *others: Any) -> dict[str, Any]:
    """In a cell's process: the real training, in which one size's loss becomes NaN."""
    if cell.model.d_model == DIVERGING:
        judge, calls = SpikeGuard.__call__, iter(range(100))

        def diverge(guard: SpikeGuard, loss: float, grad_norm: float) -> bool:
            return judge(guard, math.nan if next(calls) == 5 else loss, grad_norm)

        pytest.MonkeyPatch().setattr(SpikeGuard, "__call__", diverge)  # until this process ends, with its cell
    return train_cell(spec, cell, *others)


def test_a_real_sweep_of_two_tiny_budgets_and_one_size_that_diverges(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The law is nobody's, but every cell is trained, billed and in the table, and the tokens are made once."""
    monkeypatch.setattr(flow, "measure", stated)
    monkeypatch.setattr(sweep_runner, "train_cell", train_all_but_one)
    spec = SweepSpec(
        out=tmp_path / "sweep",
        data=DataSpec.of(corpus_folder),
        budgets_flops=(3e8, 6e8),
        n_sizes=4,
        vocab_size=320,
        seq_len=32,
        workers=2,
        dtype="fp32",
        max_cells=5,
    )
    ledger = Ledger(tmp_path / "l.sqlite")
    with pytest.raises(BudgetError):  # five cells are enough here
        flow.run_sweep(spec, ledger.path, Listener(), fit=FitRequest(n_bootstraps=0))
    found = rows(spec)
    assert [row["reason"] != "" for row in found] == [int(row["d_model"]) == DIVERGING for row in found]
    assert sorted(row["budget_flops"] for row in found) == ["300000000.0"] * 4 + ["600000000.0"]
    assert len(list((spec.out / "tokens").iterdir())) == 1
    assert not list(spec.out.glob("cells/*.run/checkpoints/*"))
    for row in found:
        assert float(row["compute_flops"]) == pytest.approx(float(row["budget_flops"]), rel=0.03)
        bill = ledger.measured_bills(row["run_id"])[Job.TRAINING]
        assert bill.total_usd == pytest.approx(float(row["usd"]), rel=0.05)
        assert Job.TRAINING in ledger.planned_bills(row["run_id"])
        if int(row["d_model"]) == DIVERGING:
            assert (row["reason"], row["loss"]) == ("step 5: the loss is nan", "")
        else:
            assert 0 < float(row["loss"]) < 7
    assert len(ledger_runs(ledger)) == len(csv_runs(spec.out / "runs.csv")) == 4
