"""What ``twobills laws sweep`` does: cells planned, their bill expected, trained, extended, and a law fitted to them.

Budgets are taken in ascending order, and what the smaller ones say of the largest is written down before its first cell
begins. Whatever stops the sweep, the same command goes on: a finished cell is never run again, an unfinished one goes
on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from twobills.errors import BudgetError, DataError, SpecError, TwobillsError
from twobills.flows.accounts import account
from twobills.flows.laws_fit import FitRequest, fit_document, fit_runs
from twobills.flows.laws_plots import write_plots
from twobills.flows.listener import Listener
from twobills.flows.machine import MeasuredMachine
from twobills.flows.sweep_cells import make_tokens, measure, slots, train_cell
from twobills.flows.sweep_folder import Row, SweepFolder
from twobills.flows.sweep_forecast import observe, predict
from twobills.flows.sweep_process import Child, Slot, any_ended
from twobills.jobs.data.sources import find_source
from twobills.ledger.store import Ledger
from twobills.plan.sweep import C_CONVENTION, N_CONVENTION, Cell, curve_side, first_cells, next_cell, open_side, runs_of
from twobills.plan.sweep_bill import Foreseen, expected_to_json, foresee
from twobills.report.documents import SCHEMA
from twobills.specs.dtype import DType
from twobills.specs.sweep import SweepSpec
from twobills.usage import Job

Start = Callable[[Cell, Slot], Child]
"""Begins a cell."""


class Ready(NamedTuple):
    """What is known before the first cell."""

    machine: MeasuredMachine
    dtype: DType
    heldout_tokens: int
    slots: list[Slot]


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
    done: dict[tuple[float, int], tuple[Cell, Row]] = field(default_factory=dict)

    def run(self, fit: FitRequest, *, plan_only: bool) -> dict[str, Any]:
        ready = self._get_ready()
        expected = self._expect(ready)
        if plan_only:
            return {"schema": SCHEMA, "run_id": self.run_id, "expected": expected}
        self._collect()
        runner = CellRunner(self, ready)
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
            expected = expected_to_json([(cell, self.foresee(cell, ready)) for cell in cells], len(ready.slots))
            self.folder.write("expected", expected)
            self.ledger.result(self.run_id, {"expected": expected})
        self.listener.found("expected", expected)
        return expected

    def foresee(self, cell: Cell, ready: Ready) -> Foreseen:
        machine = ready.machine
        heldout = ready.heldout_tokens
        return foresee(cell, machine.spec, machine.found.rates, dtype=ready.dtype, heldout_tokens=heldout)

    def _collect(self) -> None:
        """Takes up the cells that are finished."""
        self._find_done()
        self.folder.write_runs([row for _, row in self.done.values()])

    def _find_done(self) -> None:
        for budget in self.spec.budgets_flops:
            cells = self._first(budget)
            while cells:
                rows = [(cell, row) for cell in cells if (row := self.folder.row(cell))]
                self.done |= {(budget, cell.rung): (cell, row) for cell, row in rows}
                if len(rows) < len(cells):
                    return
                more = next_cell(self.spec, self.of(budget))
                cells = [more] if more else []

    def _first(self, budget: float) -> list[Cell]:
        best: dict[float, float] = {}
        for smaller in self.spec.budgets_flops:
            done = self.of(smaller) if smaller < budget else []
            if done and open_side(done) == "within":
                found = observe(self.spec, runs_of(done))["parabola"]
                best |= {smaller: found["n_params"]} if found else {}
        return first_cells(self.spec, budget, best)

    def _sweep_budget(self, budget: float, runner: CellRunner) -> None:
        """Runs the budget's cells, then one more size at a time while its curve is open."""
        cells = [cell for cell in self._first(budget) if (budget, cell.rung) not in self.done]
        while True:
            runner.run(cells)
            more = next_cell(self.spec, self.of(budget))
            if more is None:
                break
            self.listener.stage(f"At {budget:g} FLOPs the minimum is {open_side(self.of(budget))} the sizes: one more")
            cells = [more]
        if (side := open_side(self.of(budget))) != "within":
            self.listener.stage(f"At {budget:g} FLOPs no minimum was found ({side}); no other size can be trained")

    def of(self, budget: float) -> list[tuple[Cell, float]]:
        """The finished cells of a budget with their losses."""
        return [(cell, row["loss"]) for (at, _), (cell, row) in sorted(self.done.items()) if at == budget]

    def finish(self, cell: Cell) -> None:
        """A cell is finished: into the run table with it."""
        row = self.folder.row(cell)
        assert row is not None, "its result was just written"
        self.done[cell.budget_flops, cell.rung] = cell, row
        self.folder.write_runs([row for _, row in self.done.values()])
        self.listener.found("cell", row)

    def _predict(self, budget: float) -> None:
        if self.folder.read("prediction") is not None:
            return
        late = [cell for cell, _ in self.of(budget)]
        assert not late, "nothing of the largest budget is run before it is predicted"
        runs = runs_of(pair for smaller in self.spec.budgets_flops[:-1] for pair in self.of(smaller))
        prediction = predict(self.spec, runs, budget)
        self.folder.write("prediction", prediction)
        self.ledger.result(self.run_id, {"prediction": prediction})
        self.listener.found("prediction", prediction)

    def _conclude(self, expected: dict[str, Any], asked: FitRequest) -> dict[str, Any]:
        everything = [(cell, row["loss"]) for cell, row in self.done.values()]
        last = self.spec.budgets_flops[-1]
        prediction = self.folder.read("prediction")
        curves = [
            {"budget_flops": b, "minimum": curve_side(self.of(b)), **observe(self.spec, runs_of(self.of(b)))}
            for b in self.spec.budgets_flops
        ]
        try:
            found = fit_runs(runs_of(everything), asked)
            fitted: dict[str, Any] = fit_document(found, asked, str(self.folder.runs))
            write_plots(found, self.folder.plots)
        except (DataError, SpecError) as error:
            fitted = {"parameters": None, "reason": str(error)}
        self.folder.write("fit", fitted)
        rows = [row for _, (_, row) in sorted(self.done.items())]
        outcome = {"prediction": prediction, "result": observe(self.spec, runs_of(self.of(last)))}
        self.ledger.result(self.run_id, {"sweep": {"curves": curves, **outcome, "n_cells": len(rows)}})
        return {
            "schema": SCHEMA,
            "run_id": self.run_id,
            "folder": str(self.folder.path),
            "runs": str(self.folder.runs),
            "conventions": {"n_params": N_CONVENTION, "compute_flops": C_CONVENTION, "loss": "held-out nats per token"},
            "data": (self.stored or {})["data"],
            "expected": expected,
            "measured": {
                "n_cells": len(rows),
                "chip_s": sum(row["chip_s"] for row in rows),
                "total_usd": sum(row["usd"] for row in rows),
                "compute_flops": sum(row["compute_flops"] for row in rows),
            },
            "cells": rows,
            "curves": curves,
            **outcome,
            "fit": fitted,
        }


class CellRunner:
    """Runs cells, as many at once as there are slots, within the sweep's limits."""

    def __init__(self, sweep: _Sweep, ready: Ready) -> None:
        self._sweep, self._ready, self._spec = sweep, ready, sweep.spec

    def run(self, cells: Sequence[Cell]) -> None:
        """All of them. Raises what a cell raised, or BudgetError, once those that run have ended."""
        queue, running = list(cells), dict[Child, Cell]()
        stopped: TwobillsError | None = None
        with ExitStack() as stack:
            stack.callback(_stop_all, running)
            while running or (queue and not stopped):
                free = [slot for slot in self._ready.slots if slot not in [child.slot for child in running]]
                if queue and free and not stopped:
                    stopped = self._refused(queue[0], list(running.values()))
                    if not stopped:
                        running[self._start(queue[0], free[0])] = queue[0]
                        queue.pop(0)
                    continue
                for child in any_ended(list(running)):
                    cell = running.pop(child)
                    try:
                        child.result()
                        self._sweep.finish(cell)
                    except TwobillsError as error:
                        stopped = stopped or type(error)(f"cell {cell.name}: {error}")
        if stopped:
            raise stopped

    def _start(self, cell: Cell, slot: Slot) -> Child:
        sweep = self._sweep
        measured = self._ready.machine
        arguments = (self._spec, cell, self._ready.dtype, measured, sweep.ledger.path, sweep.run_id)
        return Child(train_cell, arguments, slot)

    def _refused(self, cell: Cell, running: Sequence[Cell]) -> BudgetError | None:
        """Why a cell may not begin: which limit it would exceed with what was spent and what runs."""
        sweep, spec, limits = self._sweep, self._spec, self._spec.limits
        n_cells = len(sweep.done) + len(running) + 1
        if spec.max_cells is not None and n_cells > spec.max_cells:
            return _stopped(f"--max-cells {spec.max_cells}: cell {cell.name} would be one more", len(sweep.done))
        if not limits:
            return None
        bills = [sweep.ledger.measured_bills(run_id).get(Job.TRAINING) for run_id in sweep.folder.run_ids()]
        ahead = [sweep.foresee(each, self._ready) for each in (*running, cell)]
        spent = [bill for bill in bills if bill]
        for name, limit, used, more in (
            ("--max-usd", limits.max_usd, sum(bill.total_usd for bill in spent), sum(each.usd for each in ahead)),
            (
                "--max-seconds",
                limits.max_seconds,
                sum(bill.usage.total.chip_s for bill in spent),
                sum(each.chip_s for each in ahead),
            ),
            (
                "--max-flops",
                limits.max_flops,
                sum(bill.usage.total.flops for bill in spent),
                sum(each.flops for each in ahead),
            ),
        ):
            if limit is not None and used + more > limit:
                words = f"{name} {limit:g}: {used:.4g} are spent, and cell {cell.name} would end beyond it"
                return _stopped(words, len(sweep.done))
        return None


def _stop_all(running: Mapping[Child, Cell]) -> None:
    for child in running:
        child.stop()


def _stopped(words: str, n_done: int) -> BudgetError:
    return BudgetError(f"{words}; {n_done} cells are done and kept: the same command with a larger limit goes on")
