"""What all chips together execute and move in one step, from what one chip does.

Work in the layers is listed for all layers of the model, which the pipeline's stages share out; so a copy of the
model is tensor-parallel ranks times what is listed, and there is a copy for each of data- and context-parallelism.
"""

from __future__ import annotations

from twobills.counts.layouts import Column
from twobills.counts.sharded_step import Place, StepWork
from twobills.specs.efficiency import OpKind


def executed_flops(step: StepWork) -> Column:
    """FLOPs of one step on all chips, as executed: with recomputation, and what ranks compute twice."""
    total = step.layouts.column(0)
    for work in step.work:
        total = total + work.flops * work.calls * _times(step, work.place)
    return total


def moved_bytes(step: StepWork, passes: float | Column) -> Column:
    """Bytes through the memories of all chips in one step; streaming operations move ``passes`` times the least."""
    total = step.layouts.column(0)
    for work in step.work:
        factor = passes if work.kind is OpKind.ELEMENTWISE else 1.0
        total = total + work.bytes * work.calls * factor * _times(step, work.place)
    return total


def _times(step: StepWork, place: Place) -> Column:
    layouts = step.layouts
    if place is Place.STEP:
        return layouts.n_chips
    return layouts.tp * layouts.replicas * layouts.n_micro
