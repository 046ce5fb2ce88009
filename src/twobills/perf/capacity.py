"""Whether a training run fits in memory, by how much, and what would make it fit."""

from __future__ import annotations

from typing import NamedTuple

from twobills.counts.training_memory import StepMemory, rows_at_once, step_memory
from twobills.specs.dtype import DType
from twobills.specs.hardware import MachineSpec
from twobills.specs.model import ModelSpec


class TrainingMemory(NamedTuple):
    """Bytes that a training run needs, and those there are."""

    step: StepMemory
    available_bytes: float

    @property
    def needed_bytes(self) -> float:
        """The most that is needed at once."""
        return self.step.peak_bytes

    @property
    def fits(self) -> bool:
        """Whether it fits."""
        return self.needed_bytes <= self.available_bytes


def training_memory(
    model: ModelSpec,
    machine: MachineSpec,
    *,
    batch_size: int,
    seq_len: int,
    dtype: DType,
    accumulate: int = 1,
    optimizer: str = "muon",
) -> TrainingMemory:
    """What a run on one machine holds at once, nothing sharded, nothing recomputed: one part of the batch."""
    n_rows = rows_at_once(batch_size, seq_len, accumulate, by_hand=machine.by_hand)
    step = step_memory(model, n_rows=n_rows, seq_len=seq_len, dtype=dtype, optimizer=optimizer, by_hand=machine.by_hand)
    return TrainingMemory(step, machine.memory_bytes)


def most_rows(
    model: ModelSpec, machine: MachineSpec, *, seq_len: int, dtype: DType, optimizer: str = "muon", limit: int
) -> int:
    """The most sequences below ``limit``, which does not fit, that go through the network together; 0 if none does."""
    fits, too_many = 0, limit
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        step = step_memory(
            model, n_rows=middle, seq_len=seq_len, dtype=dtype, optimizer=optimizer, by_hand=machine.by_hand
        )
        fits, too_many = (middle, too_many) if step.peak_bytes <= machine.memory_bytes else (fits, middle)
    return fits
