"""A real IsoFLOP sweep on this machine: budgets x sizes, trained by our own job, billed cell by cell, fitted.

Budgets are taken in ascending order, and what the smaller ones say of the largest is written down before its first cell
begins. Whatever stops the sweep, the same command goes on: a finished cell is never run again, an unfinished one goes
on from its checkpoint. A cell whose training diverges stays in the run table with its reason and its bill; no law is
fitted to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twobills.errors import DataError, SpecError
from twobills.flows.accounts import account
from twobills.flows.laws_fit import FitRequest, fit_document, fit_runs
from twobills.flows.laws_plots import write_plots
from twobills.flows.listener import Listener
from twobills.flows.sweep_cells import make_tokens, measure, slots
from twobills.flows.sweep_done import DoneCells
from twobills.flows.sweep_folder import SweepFolder
from twobills.flows.sweep_forecast import observe, predict
from twobills.flows.sweep_process import Child, Slot
from twobills.flows.sweep_runner import CellRunner, Ready
from twobills.jobs.data.sources import find_source
from twobills.laws.runs import MIN_RUNS
from twobills.ledger.store import Ledger
from twobills.plan.sweep import C_CONVENTION, N_CONVENTION, Cell, curve_side, first_cells, next_cell, open_side, runs_of
from twobills.plan.sweep_bill import expected_to_json
from twobills.report.documents import SCHEMA
from twobills.specs.dtype import DType
from twobills.specs.sweep import SweepSpec


def run_sweep(
    spec: SweepSpec, ledger: Path, listener: Listener, *, fit: FitRequest | None = None, plan_only: bool = False
) -> dict[str, Any]:
    """The whole sweep, or what is left of it; the document that ``laws sweep --json`` prints.

    Raises BudgetError (status 3) where a limit ends it: all finished cells are in the run table.
    """
    for budget in spec.budgets_flops:
        first_cells(spec, budget)  # said before anything is begun
    for source in spec.data.sources:
        find_source(source)  # likewise
    with SweepFolder(spec.out).opened() as folder:
        kept, stored = Ledger(ledger), folder.begun(spec)
        settings = {"out": str(spec.out), "resumed": bool(stored), **spec.identity()}
        with account(kept, "laws sweep", settings, run_id=stored["run_id"] if stored else None) as run_id:
            listener.found("run", {"run_id": run_id, "ledger": str(ledger)})
            return _Sweep(spec, folder, kept, run_id, listener, stored).run(fit or FitRequest(), plan_only=plan_only)


@dataclass
class _Sweep:
    spec: SweepSpec
    folder: SweepFolder
    ledger: Ledger
    run_id: str
    listener: Listener
    stored: Mapping[str, Any] | None

    def __post_init__(self) -> None:
        self.done = DoneCells(self.spec, self.folder, self.ledger, self.run_id, self.listener)

    def run(self, fit: FitRequest, *, plan_only: bool) -> dict[str, Any]:
        ready = self._get_ready()
        expected = self._expect(ready)
        if plan_only:
            return {"schema": SCHEMA, "run_id": self.run_id, "expected": expected}
        self.done.take_up()
        runner = CellRunner(self.spec, ready, self.done, self.folder, self.ledger, self.run_id)
        for budget in self.spec.budgets_flops:
            if budget == self.spec.budgets_flops[-1] and len(self.spec.budgets_flops) > 1:
                self._predict(budget)
            self._sweep_budget(budget, runner)
        return self._conclude(expected, fit)

    def _get_ready(self) -> Ready:
        """Measures one slot, makes the tokens; both once, in processes of their own."""
        spec, path = self.spec, self.ledger.path
        places = slots(spec.workers)
        self.listener.stage("Measuring this machine, as one cell sees it")
        measured, machine = Child(measure, (spec.usd_per_chip_hour, path), places[0]).result()
        self.listener.stage("Turning the data into tokens, once for all cells")
        data = Child(make_tokens, (spec, path, self.run_id), Slot(0)).result()
        dtype = self.stored["dtype"] if self.stored else spec.dtype or measured.dtype.value
        if not self.stored:
            facts = {"run_id": self.run_id, "dtype": dtype, "data": data, "machine": machine}
            self.stored = self.folder.begin(spec, facts)
        return Ready(measured, DType(dtype), data["n_heldout_tokens"], places)

    def _expect(self, ready: Ready) -> dict[str, Any]:
        """The expected bill: as it was stored, or as it is stored now, before the first cell."""
        expected = self.folder.read("expected")
        if expected is None:
            cells = [cell for budget in self.spec.budgets_flops for cell in first_cells(self.spec, budget)]
            expected = expected_to_json([(cell, ready.foresee(cell)) for cell in cells], len(ready.slots))
            self.folder.write("expected", expected)
            self.ledger.result(self.run_id, {"expected": expected})
        self.listener.found("expected", expected)
        return expected

    def _sweep_budget(self, budget: float, runner: CellRunner) -> None:
        """Runs the budget's cells, then one more size at a time while its curve is open."""
        cells = self.done.left(budget)
        while True:
            runner.run(cells)
            done = self.done.of(budget)
            more = next_cell(self.spec, done)
            if more is None:
                break
            self.listener.stage(f"At {budget:g} FLOPs the minimum is {open_side(done)} the sizes: one more")
            cells = [more]
        if words := _without_minimum(done):
            self.listener.stage(f"At {budget:g} FLOPs no minimum was found: {words}")

    def _predict(self, budget: float) -> None:
        if self.folder.read("prediction") is not None:
            return
        assert not self.done.of(budget), "nothing of the largest budget is run before it is predicted"
        prediction = predict(self.spec, runs_of(self.done), budget)
        self.folder.write("prediction", prediction)
        self.ledger.result(self.run_id, {"prediction": prediction})
        self.listener.found("prediction", prediction)

    def _conclude(self, expected: dict[str, Any], asked: FitRequest) -> dict[str, Any]:
        curves = []
        for budget in self.spec.budgets_flops:
            done = self.done.of(budget)
            curves.append({"budget_flops": budget, "minimum": curve_side(done), **observe(self.spec, runs_of(done))})
        fitted = self._fit(asked)
        rows = self.done.rows()
        last = runs_of(self.done.of(self.spec.budgets_flops[-1]))
        outcome = {"prediction": self.folder.read("prediction"), "result": observe(self.spec, last)}
        counted = {"n_cells": len(rows), "n_diverged": sum(row["loss"] is None for row in rows)}
        self.ledger.result(self.run_id, {"sweep": {"curves": curves, **outcome, **counted}})
        return {
            "schema": SCHEMA,
            "run_id": self.run_id,
            "folder": str(self.folder.path),
            "runs": str(self.folder.runs),
            "conventions": {"n_params": N_CONVENTION, "compute_flops": C_CONVENTION, "loss": "held-out nats per token"},
            "data": (self.stored or {})["data"],
            "expected": expected,
            "measured": {
                **counted,
                "chip_s": sum(row["chip_s"] for row in rows),
                "total_usd": sum(row["usd"] for row in rows),
                "compute_flops": sum(row["compute_flops"] for row in rows if row["loss"] is not None),
            },
            "cells": rows,
            "curves": curves,
            **outcome,
            "fit": fitted,
        }

    def _fit(self, asked: FitRequest) -> dict[str, Any]:
        """The law of all cells that have a loss, with its plots; why there is none where they carry none."""
        try:
            runs = runs_of(self.done)
            if len(runs) < MIN_RUNS:
                raise DataError(f"{len(runs)} of {len(self.done)} cells have a loss: a law takes at least {MIN_RUNS}")
            found = fit_runs(runs, asked)
            fitted: dict[str, Any] = fit_document(found, asked, str(self.folder.runs))
            write_plots(found, self.folder.plots)
        except (DataError, SpecError) as error:
            fitted = {"parameters": None, "reason": str(error)}
        self.folder.write("fit", fitted)
        return fitted


def _without_minimum(done: list[tuple[Cell, float]]) -> str | None:
    """Why the curve of one budget stays open; None if it is not."""
    side = open_side(done)
    if side == "within":
        return None
    words = {
        "below": "the smallest size that could be trained has the lowest loss",
        "above": "the largest size that could be trained has the lowest loss",
    }.get(side, "the losses show none")
    n_diverged = sum(not math.isfinite(loss) for _, loss in done)
    if n_diverged == len(done):
        return f"all {n_diverged} sizes diverged"
    return f"{words}, and {n_diverged} of {len(done)} sizes diverged" if n_diverged else words
