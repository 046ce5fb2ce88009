"""Sweeps without training: in place of processes, cells that end at once with the losses of a law that is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="a sweep trains, which needs PyTorch, the extra [run]")
pytest.importorskip("scipy", reason="fits need SciPy, the extra [fit]")

from tests.machines import RATES, machine
from twobills.errors import TwobillsError
from twobills.flows import sweep, sweep_runner
from twobills.flows.machine import FoundMachine, MeasuredMachine
from twobills.flows.run_folder import RunFolder
from twobills.flows.sweep_cells import cell_job
from twobills.flows.sweep_process import Slot
from twobills.jobs.device import pick_device
from twobills.jobs.training.guard import DivergedError
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.money.bill import price
from twobills.plan.sweep import Cell
from twobills.specs import catalog
from twobills.specs.dtype import DType
from twobills.specs.sweep import SweepSpec
from twobills.usage import Job, Origin, Phase, PhaseUsage, Usage

TRUTH = {"E": 1.7, "A": 60.0, "alpha": 0.4, "B": 400.0, "beta": 0.4}
"""Its best size at 1e12 FLOPs is within the ladder, some rungs below the first guess."""


def true_loss(n_params: float, n_tokens: float) -> float:
    return float(TRUTH["E"] + TRUTH["A"] / n_params ** TRUTH["alpha"] + TRUTH["B"] / n_tokens ** TRUTH["beta"])


class Trained:
    """In place of processes: every cell is done at once, and counted.

    ``dies_after`` so many, we are interrupted; those of ``diverges`` have no loss.
    """

    def __init__(self, loss: Callable[[float, float], float] = true_loss) -> None:
        self.cells: list[Cell] = []
        self.loss, self.dies_after, self.fails_at = loss, 1000, ""
        self.diverges: Callable[[Cell], bool] = lambda _: False
        self.before_last: list[bool] = []

    def child(self, function: Callable[..., Any], arguments: Sequence[Any], slot: Slot) -> Any:
        return _Ended(self, function.__name__, arguments, slot)

    def train(self, spec: SweepSpec, cell: Cell, dtype: DType, _: Any, path: Path, run_id: str) -> None:
        if len(self.cells) >= self.dies_after:
            raise KeyboardInterrupt
        if cell.name == self.fails_at:
            raise TwobillsError("the loss is no number")
        if cell.budget_flops == spec.budgets_flops[-1]:
            self.before_last.append((spec.out / "prediction.json").exists())
        self.cells.append(cell)
        job, ledger = cell_job(spec, cell, dtype.value), Ledger(path)
        usage = PhaseUsage(tokens=cell.n_tokens, flops=cell.compute_flops, chip_s=2.0)
        measured = Usage(job=Job.TRAINING, origin=Origin.MEASURED, phases={Phase.PRETRAIN: usage})
        cell_run = ledger.start("train", {"sweep": run_id, "data": "a corpus"})
        ledger.reading(cell_run, measured, RATES)
        if self.diverges(cell):
            with RunFolder(job.out).opened() as folder:
                folder.store(cell_run, job)
            ledger.end(cell_run, Outcome.FAILED, "diverged")
            raise DivergedError("step 3: the loss is nan; lower lr=0.01 or muon_lr=0.02, or look at the batch")
        bill = price(measured, RATES).to_json()
        result = {
            "model": {"n_params": cell.n_params, "vocab_size": spec.vocab_size},
            "training": {"n_tokens": cell.n_tokens, "compute_flops": cell.compute_flops, "epochs": 1.0, "wall_s": 2.0},
            "quality": {
                "heldout_nats_per_token": self.loss(cell.n_params, cell.n_tokens),
                "heldout_bits_per_byte": 1.0,
            },
        }
        ledger.result(cell_run, result)
        ledger.end(cell_run, Outcome.DONE)
        with RunFolder(job.out).opened() as folder:
            folder.store(cell_run, job)
            folder.finish({**result, "run_id": cell_run, "bills": {"training": {"measured": bill, "predicted": bill}}})


class _Ended:
    def __init__(self, trained: Trained, name: str, arguments: Sequence[Any], slot: Slot) -> None:
        self._trained, self._name, self._arguments, self.slot = trained, name, arguments, slot

    def result(self) -> Any:
        if self._name == "measure":
            return stated()
        if self._name == "make_tokens":
            return {"n_heldout_tokens": 1000}
        self._trained.train(*self._arguments)
        return None

    def stop(self) -> None:
        pass


def stated(*_: Any) -> tuple[MeasuredMachine, dict[str, Any]]:
    """In place of seconds of measurement."""
    found = FoundMachine(device=pick_device()._replace(n_chips=1), chip=catalog.chip("cpu-core"), rates=RATES)
    return MeasuredMachine(found=found, spec=machine(), dtype=DType.BF16), {"name": "stated"}


def swept(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """From now on sweeps train nothing."""
    fake = Trained()
    for module in (sweep, sweep_runner):
        monkeypatch.setattr(module, "Child", fake.child)
    monkeypatch.setattr(sweep_runner, "any_ended", lambda children: children[:1])
    return fake
