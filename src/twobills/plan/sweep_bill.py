"""The expected bill of a sweep: each cell's forecast, added up by budget, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from twobills.money.rates import Rates
from twobills.plan.local import TrainingPlan, plan_training
from twobills.plan.sweep import Cell
from twobills.specs.dtype import DType
from twobills.specs.hardware import MachineSpec
from twobills.specs.training import TrainingSpec


class Foreseen(NamedTuple):
    """What one cell, or several, should take."""

    n_cells: int
    chip_s: float
    """Of all cells together."""
    usd: float
    flops: float
    """Executed, evaluation included."""
    compute_flops: float
    """Model FLOPs of training: the budgets, within half a step for each cell."""

    def to_json(self) -> dict[str, float]:
        """Base units in the key names."""
        return {
            "n_cells": self.n_cells,
            "chip_s": self.chip_s,
            "total_usd": self.usd,
            "executed_flops": self.flops,
            "compute_flops": self.compute_flops,
        }


def foresee(
    cell: Cell, machine: MachineSpec, rates: Rates, *, dtype: DType, heldout_tokens: int, seed: int = 0
) -> Foreseen:
    """One cell's forecast on one slot of the machine. Raises SpecError if it does not fit in memory."""
    training = TrainingSpec(
        n_steps=cell.n_steps,
        batch_size=cell.batch_size,
        seq_len=cell.seq_len,
        dtype=dtype,
        heldout_tokens=heldout_tokens,
        lr=cell.lr,
        muon_lr=cell.muon_lr,
        seed=seed,
    )
    plan: TrainingPlan = plan_training(cell.model, training, machine, rates)
    total = plan.bill.usage.total
    return Foreseen(1, total.chip_s, plan.bill.total_usd, total.flops, cell.compute_flops)


def together(several: Iterable[Foreseen]) -> Foreseen:
    """Their sum."""
    each = list(several)
    return Foreseen(
        n_cells=sum(one.n_cells for one in each),
        chip_s=sum(one.chip_s for one in each),
        usd=sum(one.usd for one in each),
        flops=sum(one.flops for one in each),
        compute_flops=sum(one.compute_flops for one in each),
    )


def expected_to_json(foreseen: Sequence[tuple[Cell, Foreseen]], n_slots: int) -> dict[str, Any]:
    """Cells, sums by budget, and the whole; the wall time if the slots are never idle."""
    budgets = sorted({cell.budget_flops for cell, _ in foreseen})
    total = together(one for _, one in foreseen)
    return {
        "cells": [{**cell_to_json(cell), **_without_count(one)} for cell, one in foreseen],
        "budgets": [
            {"budget_flops": b, **together(one for cell, one in foreseen if cell.budget_flops == b).to_json()}
            for b in budgets
        ],
        "total": {**total.to_json(), "wall_s": total.chip_s / n_slots},
        "n_slots": n_slots,
        "note": "before extensions: a curve without a minimum gets more sizes",
    }


def cell_to_json(cell: Cell) -> dict[str, Any]:
    """What a cell is, as the run table has it."""
    return {
        "n_params": cell.n_params,
        "n_tokens": cell.n_tokens,
        "compute_flops": cell.compute_flops,
        "budget_flops": cell.budget_flops,
        "d_model": cell.model.d_model,
        "n_layers": cell.model.n_layers,
        "n_steps": cell.n_steps,
        "batch_size": cell.batch_size,
        "seq_len": cell.seq_len,
        "lr": cell.lr,
        "muon_lr": cell.muon_lr,
    }


def _without_count(one: Foreseen) -> dict[str, float]:
    return {"chip_s": one.chip_s, "total_usd": one.usd}
