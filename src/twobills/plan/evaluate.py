"""A table of parallel plans, each with its time and its memory; the fastest that fits.

What a chip holds besides tensors (context, communication buffers, fragmentation) is assumed: a fixed part and a share.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from twobills.counts.layouts import Column, Layouts
from twobills.counts.sharded_memory import ShardedMemory, sharded_memory
from twobills.counts.sharded_step import Passes, StepWork, sharded_step
from twobills.perf.achieved import Achieved
from twobills.perf.sharded_step import StepTime, step_time
from twobills.specs.model import ModelSpec

RESERVED_BYTES = 3e9
"""Assumed: context and communication buffers of one chip."""
FRAGMENTED_FRAC = 0.05
"""Assumed: memory that the allocator cannot use."""


class Evaluated(NamedTuple):
    """Plans with what they take."""

    layouts: Layouts
    work: StepWork
    time: StepTime
    memory: ShardedMemory
    spare_bytes: Column
    """Memory of a chip that is left; below 0 where a plan does not fit."""

    @property
    def fits(self) -> np.ndarray:
        """Whether each plan fits in memory."""
        return np.asarray(self.spare_bytes >= 0)


def evaluate(
    model: ModelSpec,
    layouts: Layouts,
    rates: Achieved,
    *,
    seq_len: float,
    memory_bytes: float | Column,
    passes: Passes = Passes.TRAIN,
    adapted: float = 1.0,
) -> Evaluated:
    """Every plan's step time and memory on chips of ``memory_bytes`` each; ``adapted`` as in ``sharded_step``."""
    work = sharded_step(model, layouts, seq_len, passes=passes, adapted=adapted, square=rates.square)
    memory = sharded_memory(model, layouts, seq_len, passes=passes, adapted=adapted, square=rates.square)
    spare = memory_bytes * (1 - FRAGMENTED_FRAC) - RESERVED_BYTES - memory.total
    return Evaluated(layouts, work, step_time(work, rates), memory, spare)


def fastest(evaluated: Evaluated) -> int:
    """The row of the fastest plan that fits; if none fits, of the one that lacks least memory."""
    if not evaluated.fits.any():
        return int(np.argmax(evaluated.spare_bytes))
    return int(np.argmin(np.where(evaluated.fits, evaluated.time.seconds, np.inf)))
