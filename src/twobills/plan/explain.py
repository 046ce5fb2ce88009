"""Where the time of one step goes, operation by operation and transfer by transfer, and what binds each.

Seconds are of the chip that computes longest. What an operation of the output head takes beyond the layer that its
pipeline stage is spared counts; transfers that wait beside the same computation share out what of it is not hidden
in proportion to their time. All parts together are the step.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from twobills.counts.sharded_params import layers_of_fullest_stage
from twobills.counts.sharded_step import Hidden, Place, StepWork, Transfer, Work
from twobills.perf.achieved import Achieved
from twobills.perf.links import transfer_s
from twobills.perf.sharded_step import StepTime, bound_by_flops, work_s
from twobills.plan.chosen_step import ChosenStep
from twobills.plan.evaluate import Evaluated
from twobills.specs.efficiency import OpKind

_KIND_OF_LAYER = re.compile(r" \(\d+\)$")


class Bound(StrEnum):
    """What a part of a step waits for."""

    COMPUTE = "compute"
    MEMORY = "memory"
    FAST_LINKS = "fast links"
    NETWORK = "network"
    PIPELINE = "pipeline"
    """For other stages."""
    SLOWEST = "slowest chip"


class StepPart(NamedTuple):
    """One operation or transfer of a step, all its calls."""

    name: str
    seconds: float
    """That the step is longer for it; of a transfer, what nothing hides."""
    bound: Bound
    running_s: float
    """That it runs, hidden or not."""

    def to_json(self, step_s: float) -> dict[str, Any]:
        """Plain JSON, with its share of the step."""
        return {
            "name": self.name,
            "step_s": self.seconds,
            "share_frac": self.seconds / step_s,
            "bound_by": self.bound.value,
            "running_s": self.running_s,
        }


def explain(step: ChosenStep) -> list[StepPart]:
    """The parts of one step, the longest first; they sum to its seconds. Layers of all kinds are taken together."""
    parts = _of_all_kinds(_parts(step.student, step.rates))
    if step.teacher is not None:
        teachers = _of_all_kinds(_parts(step.teacher, step.rates))
        parts += [part._replace(name=f"teacher: {part.name}") for part in teachers]
    return sorted((p for p in parts if p.running_s > 0), key=lambda part: -part.seconds)


def _of_all_kinds(parts: list[StepPart]) -> list[StepPart]:
    """Parts of the same name but for the number of their kind of layer, added up; the longest says what binds."""
    found: dict[str, StepPart] = {}
    for part in parts:
        name = _KIND_OF_LAYER.sub("", part.name)
        same = found.get(name, StepPart(name, 0.0, part.bound, 0.0))
        bound = part.bound if part.seconds > same.seconds else same.bound
        found[name] = StepPart(name, same.seconds + part.seconds, bound, same.running_s + part.running_s)
    return list(found.values())


def _parts(table: Evaluated, rates: Achieved) -> list[StepPart]:
    time, step = table.time, table.work
    work = [(w, float((work_s(w, rates) * _times(step, w.place))[0])) for w in step.work]
    beyond = _beyond_spared_layer(step, work)
    of_work = [seconds * (beyond if w.place is Place.HEAD else 1.0) for w, seconds in work]
    transfers = [(t, float((transfer_s(t, rates) * _times(step, t.place))[0])) for t in step.transfers]
    of_transfers = [seconds * _unhidden(t, rates) for t, seconds in transfers]
    return [
        *(
            StepPart(w.name, exposed, _bound(w, rates), seconds)
            for (w, seconds), exposed in zip(work, _summing_to(time.compute_s, of_work), strict=True)
        ),
        *(
            StepPart(t.name, exposed, _link(t, rates), seconds)
            for (t, seconds), exposed in zip(transfers, _summing_to(time.exposed_s, of_transfers), strict=True)
        ),
        *_waiting(time),
    ]


def _waiting(time: StepTime) -> list[StepPart]:
    bubble, straggling = float(time.bubble_s[0]), float(time.straggling_s[0])
    return [
        StepPart("pipeline filling and draining", bubble, Bound.PIPELINE, bubble),
        StepPart("waiting for the slowest of many chips", straggling, Bound.SLOWEST, straggling),
    ]


def _times(step: StepWork, place: Place) -> Any:
    """How often the busiest chip does in a step what is listed for one micro-batch and all layers."""
    if place is Place.STEP:
        return 1.0
    share = layers_of_fullest_stage(step.n_layers, step.layouts) / step.n_layers if place is Place.LAYERS else 1.0
    return share * step.layouts.n_micro


def _beyond_spared_layer(step: StepWork, work: list[tuple[Work, float]]) -> float:
    """Share of the head's time that the layers which its stage does not have leave over."""
    layouts = step.layouts
    if layouts.pp[0] == 1:
        return 1.0
    layers = float(layers_of_fullest_stage(step.n_layers, layouts)[0])
    of_layers = sum(seconds for w, seconds in work if w.place is Place.LAYERS)
    head = sum(seconds for w, seconds in work if w.place is Place.HEAD)
    spared = (layers * float(layouts.pp[0]) - float(step.n_layers[0])) / layers * of_layers
    return max(0.0, head - spared) / head if head else 0.0


def _unhidden(transfer: Transfer, rates: Achieved) -> float:
    if transfer.hidden is Hidden.NOTHING:
        return 1.0
    return 1.0 - float(rates.tensor_overlap if transfer.hidden is Hidden.TENSOR else rates.data_overlap)


def _summing_to(total: np.ndarray, parts: list[float]) -> list[float]:
    """In proportion, so that they sum to what the step's timing says."""
    whole, found = float(total[0]), sum(parts)
    return [part * whole / found for part in parts] if found else parts


def _bound(work: Work, rates: Achieved) -> Bound:
    streams = work.kind not in (OpKind.MATMUL, OpKind.ATTENTION)
    return Bound.MEMORY if streams or not bound_by_flops(work, rates)[0] else Bound.COMPUTE


def _link(transfer: Transfer, rates: Achieved) -> Bound:
    """Whether the whole group shares fast links; if not, all wait for those that have to cross the network."""
    reach = float(transfer.stride[0] * transfer.group[0])
    return Bound.FAST_LINKS if reach <= float(rates.n_fast) else Bound.NETWORK
