"""A sweep's cells run once each, whatever stops it; the largest budget is predicted before it is run.

Most of it with cells that train nothing: their losses come from a law that is known. One sweep is real.
"""

from __future__ import annotations

import csv
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.swept import TRUTH, Trained, swept
from twobills.errors import BudgetError, RequestError, TwobillsError
from twobills.flows import sweep as flow
from twobills.flows.laws_fit import FitRequest
from twobills.flows.laws_runs import csv_runs, ledger_runs
from twobills.flows.listener import Listener
from twobills.flows.sweep_process import Child, Slot
from twobills.ledger.record import Outcome, RecordKind
from twobills.ledger.store import Ledger
from twobills.specs.data import DataSpec
from twobills.specs.limits import Limits
from twobills.specs.sweep import SweepSpec
from twobills.usage import Job

BUDGETS = (1e12, 3e12, 1e13)
QUICK = FitRequest(n_bootstraps=20)


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


def failing(words: str) -> None:
    raise RequestError(words)


def test_a_childs_mistake_is_ours_to_tell_and_its_death_too() -> None:
    with pytest.raises(RequestError, match="no such thing"):
        Child(failing, ("no such thing",), Slot(0)).result()
    with pytest.raises(TwobillsError, match="died"):
        Child(os_exit, (), Slot(0)).result()


def os_exit() -> None:
    os._exit(9)


def test_a_real_sweep_of_two_tiny_budgets(tmp_path: Path, corpus_folder: Path) -> None:
    """The law is nobody's, but every cell is trained, billed and in the table, and the tokens are made once."""
    spec = SweepSpec(
        out=tmp_path / "sweep",
        data=DataSpec.of(corpus_folder),
        budgets_flops=(6e8, 1.2e9),
        n_sizes=4,
        vocab_size=320,
        seq_len=32,
        workers=1,
        dtype="fp32",
        max_cells=8,
    )
    ledger = tmp_path / "l.sqlite"
    with suppress(BudgetError):  # eight cells are enough here, minimum or not
        flow.run_sweep(spec, ledger, Listener(), fit=FitRequest(n_bootstraps=0))
    found = rows(spec)
    assert len(found) == 8
    assert len(list((spec.out / "tokens").iterdir())) == 1
    for row in found:
        assert float(row["compute_flops"]) == pytest.approx(float(row["budget_flops"]), rel=0.03)
        assert 0 < float(row["loss"]) < 7
        bill = Ledger(ledger).measured_bills(row["run_id"])[Job.TRAINING]
        assert bill.total_usd == pytest.approx(float(row["usd"]), rel=0.05)
        assert Job.TRAINING in Ledger(ledger).planned_bills(row["run_id"])
    assert len(ledger_runs(Ledger(ledger))) == 8
