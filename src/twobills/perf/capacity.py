"""Whether a training run fits in memory, by how much, and what would make it fit."""

from __future__ import annotations

from typing import NamedTuple

from twobills.counts.memory import activation_bytes, training_state_bytes
from twobills.specs.dtype import DType
from twobills.specs.hardware import MachineSpec
from twobills.specs.model import ModelSpec


class TrainingMemory(NamedTuple):
    """Bytes that a training run needs, and those there are."""

    state_bytes: float
    activation_bytes: float
    available_bytes: float

    @property
    def needed_bytes(self) -> float:
        """All that is needed at once."""
        return self.state_bytes + self.activation_bytes

    @property
    def fits(self) -> bool:
        """Whether it fits."""
        return self.needed_bytes <= self.available_bytes


def training_memory(
    model: ModelSpec, machine: MachineSpec, *, batch_size: int, seq_len: int, dtype: DType
) -> TrainingMemory:
    """What a run on one machine holds, nothing sharded, nothing recomputed."""
    return TrainingMemory(
        state_bytes=training_state_bytes(model, dtype),
        activation_bytes=activation_bytes(model, batch_size=batch_size, seq_len=seq_len, dtype=dtype),
        available_bytes=machine.memory_bytes,
    )


def largest_batch(model: ModelSpec, machine: MachineSpec, *, seq_len: int, dtype: DType) -> int:
    """Sequences of the largest batch that fits; 0 if not even one does."""
    fits, too_many = 0, 1
    while training_memory(model, machine, batch_size=too_many, seq_len=seq_len, dtype=dtype).fits:
        fits, too_many = too_many, 2 * too_many
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if training_memory(model, machine, batch_size=middle, seq_len=seq_len, dtype=dtype).fits:
            fits = middle
        else:
            too_many = middle
    return fits
