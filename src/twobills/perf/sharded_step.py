"""How long a training step takes under each of many parallel plans, and what the time goes to.

An operation takes the longer of its FLOPs and its bytes over what the chip achieves, a product's rate growing with its
size; transfers wait for their bytes, but for what runs beside computation; a pipeline fills and drains (Narayanan et
al. 2021: (stages - 1) / pieces micro-batches); many chips wait for the slowest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from twobills.counts.layouts import Column
from twobills.counts.sharded_params import layers_of_fullest_stage
from twobills.counts.sharded_step import Hidden, Place, StepWork, Work
from twobills.perf.achieved import CALL_S, Achieved
from twobills.perf.links import transfer_s
from twobills.specs.efficiency import OpKind


class StepTime(NamedTuple):
    """A step's time, and its parts; the parts sum to the whole."""

    seconds: Column
    compute_s: Column
    """Operations of all micro-batches and the update."""
    exposed_s: Column
    """Transfers that nothing hides."""
    bubble_s: Column
    """Waiting for the pipeline to fill and drain."""
    straggling_s: Column
    """Waiting for the slowest of many chips."""


def step_time(step: StepWork, rates: Achieved) -> StepTime:
    """Seconds of one optimiser step under each plan."""
    layouts = step.layouts
    layer_s, head_s, update_s = _work_s(step, rates)
    waits = _tensor_waits(step, rates)
    micro_s = _fullest_stage(step, layer_s + waits[Place.LAYERS], head_s)
    computed = _fullest_stage(step, layer_s, head_s) * layouts.n_micro
    running = micro_s * layouts.n_micro
    exposed = running - computed + waits[Place.STEP] + _data_waits(step, rates, running, micro_s)
    bubble = micro_s * (layouts.pp - 1) / layouts.interleave
    before = computed + update_s + exposed + bubble
    straggling = before * rates.straggling * np.log2(np.maximum(layouts.n_chips / 8, 1.0))
    return StepTime(before + straggling, computed + update_s, exposed, bubble, straggling)


def work_s(work: Work, rates: Achieved) -> Column:
    """Seconds of all calls of one operation."""
    seconds = np.maximum(_flops_s(work, rates), _bytes_s(work, rates))
    total: Column = work.calls * (seconds + CALL_S * (seconds > 0))
    return total


def bound_by_flops(work: Work, rates: Achieved) -> np.ndarray:
    """Whether FLOPs bind an operation rather than bytes."""
    bound: np.ndarray = np.asarray(_flops_s(work, rates) >= _bytes_s(work, rates))
    return bound


def _flops_s(work: Work, rates: Achieved) -> Column:
    if work.kind is OpKind.ATTENTION:
        return np.asarray(work.flops / rates.attention_flops_per_s)
    if work.kind is not OpKind.MATMUL:
        return work.flops
    rate = np.where(work.fp8 > 0, rates.fp8_flops_per_s, rates.product_flops_per_s)
    return np.asarray((work.flops + rates.half_rate_flops * (work.flops > 0)) / rate)


def _bytes_s(work: Work, rates: Achieved) -> Column:
    passes = rates.passes if work.kind is OpKind.ELEMENTWISE else 1.0
    return np.asarray(work.bytes * passes / rates.bytes_per_s)


def _work_s(step: StepWork, rates: Achieved) -> tuple[Column, Column, Column]:
    """Of all layers per micro-batch, of the head per micro-batch, of the update."""
    sums = {place: np.zeros_like(step.layouts.dp) for place in Place}
    for work in step.work:
        sums[work.place] = sums[work.place] + work_s(work, rates)
    return sums[Place.LAYERS], sums[Place.HEAD], sums[Place.STEP]


def _tensor_waits(step: StepWork, rates: Achieved) -> dict[Place, Column]:
    waits = {place: np.zeros_like(step.layouts.dp) for place in Place}
    for transfer in step.transfers:
        if transfer.hidden is not Hidden.DATA:
            hidden = rates.tensor_overlap if transfer.hidden is Hidden.TENSOR else 0.0
            waits[transfer.place] = waits[transfer.place] + transfer_s(transfer, rates) * (1 - hidden)
        elif transfer.place is Place.LAYERS:
            waits[Place.LAYERS] = waits[Place.LAYERS] + transfer_s(transfer, rates) * (1 - rates.data_overlap)
    return waits


def _data_waits(step: StepWork, rates: Achieved, running: Column, micro_s: Column) -> Column:
    """Weights and gradients: what is sent for every micro-batch hides beside all of them, else beside the last.

    Nothing hides beside computation that something else already hides beside.
    """
    often, once = np.zeros_like(step.layouts.dp), np.zeros_like(step.layouts.dp)
    for transfer in step.transfers:
        if transfer.hidden is Hidden.DATA and transfer.place is Place.STEP:
            sent = transfer_s(transfer, rates)
            each_time = transfer.calls >= step.layouts.n_micro
            often, once = often + np.where(each_time, sent, 0), once + np.where(each_time, 0, sent)
    hidden_often = np.minimum(rates.data_overlap * often, running)
    hidden_once = np.minimum(rates.data_overlap * once, micro_s - hidden_often / step.layouts.n_micro)
    waits: Column = often - hidden_often + once - hidden_once
    return waits


def _fullest_stage(step: StepWork, layer_s: Column, head_s: Column) -> Column:
    """A micro-batch on the busiest stage: the head goes where a stage has a layer less, if one has."""
    layouts = step.layouts
    layers = layers_of_fullest_stage(step.n_layers, layouts)
    spare = layers * layouts.pp - step.n_layers
    one_layer = layer_s / step.n_layers
    stage = layers * one_layer
    last = stage + head_s - spare * one_layer
    busiest: Column = np.maximum(stage, np.where(layouts.pp > 1, last, stage + head_s))
    return busiest
