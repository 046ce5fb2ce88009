"""The cells of a sweep that are done: their losses by budget, what those leave to be run, and their rows of the table.

A cell whose training diverged is done too. It has no loss, and never will: its reason and its bill are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from twobills.flows.listener import Listener
from twobills.flows.sweep_folder import Row, SweepFolder, cell_row
from twobills.flows.sweep_forecast import observe
from twobills.ledger.store import Ledger
from twobills.plan.sweep import Cell, first_cells, next_cell, open_side, runs_of
from twobills.specs.sweep import SweepSpec
from twobills.usage import Job


class DoneCells:
    """Of one sweep, taken up from its folder and added to as cells end."""

    def __init__(self, spec: SweepSpec, folder: SweepFolder, ledger: Ledger, run_id: str, listener: Listener) -> None:
        self._spec, self._folder, self._ledger = spec, folder, ledger
        self._run_id, self._listener = run_id, listener
        self._done: dict[tuple[float, int], tuple[Cell, Row]] = {}

    def __len__(self) -> int:
        return len(self._done)

    def __iter__(self) -> Iterator[tuple[Cell, float]]:
        """Each with its loss, NaN for those that diverged; budgets ascending, then sizes."""
        return iter([(cell, _loss(row)) for _, (cell, row) in sorted(self._done.items())])

    def of(self, budget: float) -> list[tuple[Cell, float]]:
        """Those of one budget."""
        return [(cell, loss) for cell, loss in self if cell.budget_flops == budget]

    def rows(self) -> list[Row]:
        """Of the run table."""
        return [row for _, (_, row) in sorted(self._done.items())]

    def take_up(self) -> None:
        """Finds those that an earlier process finished."""
        self._find()
        self._folder.write_runs(self.rows())

    def left(self, budget: float) -> list[Cell]:
        """The sizes that a budget begins with and that are not done: around the smaller budgets' best."""
        return [cell for cell in self._first(budget) if (budget, cell.rung) not in self._done]

    def finish(self, cell: Cell) -> None:
        """A cell is finished: into the run table with it."""
        row = self._folder.row(cell)
        assert row is not None, "its result was just written"
        self._done[cell.budget_flops, cell.rung] = cell, row
        self._folder.write_runs(self.rows())
        self._listener.found("cell", row)

    def diverge(self, cell: Cell, words: str) -> None:
        """A cell's training ended in a loss that is no number: its reason and its bill are what is kept."""
        reason = words.partition(";")[0]  # what follows advises on learning rates, which are not a sweep's to choose
        stored = self._folder.cell(cell).stored()
        assert stored is not None, "a cell that trained was begun"
        measured = self._ledger.measured_bills(stored.run_id).get(Job.TRAINING)
        predicted = self._ledger.planned_bills(stored.run_id).get(Job.TRAINING)
        row = cell_row(
            cell,
            measured=measured.to_json() if measured else None,
            predicted=predicted.to_json() if predicted else None,
            run_id=stored.run_id,
            reason=reason,
        )
        self._folder.diverge(cell, row)
        self._ledger.result(self._run_id, {"diverged": {cell.name: reason}})
        self.finish(cell)

    def _find(self) -> None:
        for budget in self._spec.budgets_flops:
            cells = self._first(budget)
            while cells:
                rows = [(cell, row) for cell in cells if (row := self._folder.row(cell))]
                self._done |= {(budget, cell.rung): (cell, row) for cell, row in rows}
                if len(rows) < len(cells):
                    return
                more = next_cell(self._spec, self.of(budget))
                cells = [more] if more else []

    def _first(self, budget: float) -> list[Cell]:
        best: dict[float, float] = {}
        for smaller in self._spec.budgets_flops:
            done = self.of(smaller) if smaller < budget else []
            if done and open_side(done) == "within":
                found: dict[str, Any] | None = observe(self._spec, runs_of(done))["parabola"]
                best |= {smaller: found["n_params"]} if found else {}
        return first_cells(self._spec, budget, best)


def _loss(row: Row) -> float:
    """NaN where the cell diverged."""
    return math.nan if row["loss"] is None else float(row["loss"])
