"""How long a step takes: of training, of evaluation, of the serving engine. Operations, one after another."""

from __future__ import annotations

from typing import NamedTuple

from twobills.counts.operations import (
    Operation,
    engine_step_operations,
    evaluate_operations,
    total_bytes,
    total_flops,
)
from twobills.counts.trained_step import train_step_operations
from twobills.perf.roofline import Timed, time_operations
from twobills.specs.dtype import DType
from twobills.specs.experience import Part
from twobills.specs.hardware import MachineSpec
from twobills.specs.model import ModelSpec


class StepForecast(NamedTuple):
    """One step: its time, its executed work, and where the time goes."""

    seconds: float
    flops: float
    bytes: float
    operations: list[Timed]


def train_step(
    model: ModelSpec,
    machine: MachineSpec,
    *,
    batch_size: int,
    seq_len: int,
    dtype: DType,
    accumulate: int = 1,
    optimizer: str = "muon",
) -> StepForecast:
    """One optimiser step."""
    operations = train_step_operations(
        model, batch_size=batch_size, seq_len=seq_len, dtype=dtype, accumulate=accumulate, optimizer=optimizer
    )
    return _forecast(operations, dtype, machine, Part.STEP)


def evaluate_step(
    model: ModelSpec, machine: MachineSpec, *, batch_size: int, seq_len: int, dtype: DType
) -> StepForecast:
    """One forward pass with loss."""
    operations = evaluate_operations(model, batch_size=batch_size, seq_len=seq_len, dtype=dtype)
    return _forecast(operations, dtype, machine, Part.EVALUATE)


def engine_step(
    model: ModelSpec,
    machine: MachineSpec,
    *,
    n_tokens: float,
    n_attended: float,
    n_logits: float,
    n_chunks: int,
    dtype: DType,
) -> StepForecast:
    """One step of the serving engine over a flat batch of decodes and prompt chunks, before any experience.

    Which of a machine's experience applies depends on how much of the step is prompts': see ``plan.inference``.
    """
    operations = engine_step_operations(
        model, n_tokens=n_tokens, n_attended=n_attended, n_logits=n_logits, n_chunks=n_chunks, dtype=dtype
    )
    return _forecast(operations, dtype, machine)


def _forecast(
    operations: list[Operation], dtype: DType, machine: MachineSpec, part: Part | None = None
) -> StepForecast:
    slower = machine.experience.slower(part) if part else 1.0
    timed = [t._replace(seconds=slower * t.seconds) for t in time_operations(operations, dtype, machine.efficiency)]
    return StepForecast(sum(t.seconds for t in timed), total_flops(operations), total_bytes(operations), timed)
