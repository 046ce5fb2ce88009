"""Runs the cells of a sweep in processes, as many at once as there are slots, within the sweep's limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from twobills.errors import BudgetError, TwobillsError
from twobills.flows.machine import MeasuredMachine
from twobills.flows.sweep_cells import train_cell
from twobills.flows.sweep_done import DoneCells
from twobills.flows.sweep_folder import SweepFolder
from twobills.flows.sweep_process import Child, Slot, any_ended
from twobills.jobs.training.guard import DivergedError
from twobills.ledger.store import Ledger
from twobills.plan.sweep import Cell
from twobills.plan.sweep_bill import Foreseen, foresee
from twobills.specs.dtype import DType
from twobills.specs.sweep import SweepSpec
from twobills.usage import Job


class Ready(NamedTuple):
    """What is known before the first cell."""

    machine: MeasuredMachine
    dtype: DType
    heldout_tokens: int
    slots: list[Slot]

    def foresee(self, cell: Cell) -> Foreseen:
        """A cell's forecast on one slot."""
        machine, rates = self.machine.spec, self.machine.found.rates
        return foresee(cell, machine, rates, dtype=self.dtype, heldout_tokens=self.heldout_tokens)


class CellRunner:
    """Of one sweep."""

    def __init__(
        self, spec: SweepSpec, ready: Ready, done: DoneCells, folder: SweepFolder, ledger: Ledger, run_id: str
    ) -> None:
        self._spec, self._ready, self._done = spec, ready, done
        self._folder, self._ledger, self._run_id = folder, ledger, run_id

    def run(self, cells: Sequence[Cell]) -> None:
        """All of them. Raises what a cell raised, or BudgetError, once those that run have ended.

        A cell that diverges ends nothing: the others are worth their bills without it.
        """
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
                    failed = self._end(child, running.pop(child))
                    stopped = stopped or failed
        if stopped:
            raise stopped

    def _start(self, cell: Cell, slot: Slot) -> Child:
        arguments = (self._spec, cell, self._ready.dtype, self._ready.machine, self._ledger.path, self._run_id)
        return Child(train_cell, arguments, slot)

    def _end(self, child: Child, cell: Cell) -> TwobillsError | None:
        """Keeps what came of a cell; what ends the sweep, if it does."""
        try:
            child.result()
            self._done.finish(cell)
        except DivergedError as error:
            self._done.diverge(cell, str(error))
        except TwobillsError as error:
            return type(error)(f"cell {cell.name}: {error}")
        return None

    def _refused(self, cell: Cell, running: Sequence[Cell]) -> BudgetError | None:
        """Why a cell may not begin: which limit it would exceed with what was spent and what runs."""
        max_cells, n_done = self._spec.max_cells, len(self._done)
        if max_cells is not None and n_done + len(running) + 1 > max_cells:
            return _stopped(f"--max-cells {max_cells}: cell {cell.name} would be one more", n_done)
        for name, limit, used, more in self._spending(cell, running):
            if limit is not None and used + more > limit:
                words = f"{name} {limit:g}: {used:.4g} are spent, and cell {cell.name} would end beyond it"
                return _stopped(words, n_done)
        return None

    def _spending(self, cell: Cell, running: Sequence[Cell]) -> Iterator[tuple[str, float | None, float, float]]:
        """Each option with its limit, what all cells have spent, and what those ahead should."""
        limits = self._spec.limits
        if not limits:
            return
        bills = [self._ledger.measured_bills(run_id).get(Job.TRAINING) for run_id in self._folder.run_ids()]
        spent = [bill for bill in bills if bill]
        totals = [bill.usage.total for bill in spent]
        ahead = [self._ready.foresee(each) for each in (*running, cell)]
        yield "--max-usd", limits.max_usd, sum(bill.total_usd for bill in spent), sum(each.usd for each in ahead)
        yield "--max-seconds", limits.max_seconds, sum(u.chip_s for u in totals), sum(each.chip_s for each in ahead)
        yield "--max-flops", limits.max_flops, sum(u.flops for u in totals), sum(each.flops for each in ahead)


def _stop_all(running: Mapping[Child, Cell]) -> None:
    for child in running:
        child.stop()


def _stopped(words: str, n_done: int) -> BudgetError:
    return BudgetError(f"{words}; {n_done} cells are done and kept: the same command with a larger limit goes on")
