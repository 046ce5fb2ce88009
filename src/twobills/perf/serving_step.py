"""How long a step of a serving engine takes, for many situations at once.

Every operation takes the longer of its FLOPs and its bytes over what chip and engine achieve, transfers between
tensor-parallel ranks wait, and the engine adds what it costs beside the arithmetic: for each layer, step and sequence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from twobills.counts.layouts import Column
from twobills.counts.serving_step import ServingWork
from twobills.counts.sharded_step import Work
from twobills.perf.achieved import Figure, family_key, links_of, power_factor
from twobills.perf.links import transfer_s
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.efficiency import OpKind
from twobills.specs.engine import Engine
from twobills.specs.serving_calibration import ServingCalibration, of


class ServingRates(NamedTuple):
    """What one chip achieves in serving; floats, or columns."""

    product_flops_per_s: Figure
    attention_flops_per_s: Figure
    weights_bytes_per_s: Figure
    """Of products, whose bytes are mostly weights."""
    bytes_per_s: Figure
    layer_s: Figure
    step_s: Figure
    sequence_s: Figure
    fast_bytes_per_s: Figure
    slow_bytes_per_s: Figure
    n_fast: Figure
    message_s: Figure


def serving_rates(
    cluster: ClusterSpec, engine: Engine, compute: DType, weight_bits: float, calibration: ServingCalibration
) -> ServingRates:
    """Rates of a chip whose products run in ``compute`` on weights of so many bits."""
    chip, key = cluster.chip, family_key(cluster.chip.family)
    peak16 = cluster.peak(DType.BF16)
    share = of(calibration.product_frac, key) * power_factor(key, chip.watts, peak16)
    low = compute.bytes < DType.BF16.bytes and compute in chip.peak_flops_per_s
    peak = chip.peak_flops_per_s[compute] * calibration.low_precision_frac if low else peak16
    bandwidth = (chip.memory_bytes_per_s or 0.0) * of(calibration.bandwidth_frac, engine)
    unpacked = weight_bits < 8 and not (low and compute in (DType.FP4, DType.INT4))
    fast, slow = links_of(cluster)
    return ServingRates(
        product_flops_per_s=peak * share,
        attention_flops_per_s=peak16 * calibration.attention_frac,
        weights_bytes_per_s=bandwidth * (calibration.unpack_frac if unpacked else 1.0),
        bytes_per_s=bandwidth,
        layer_s=of(calibration.layer_s, engine),
        step_s=of(calibration.step_s, engine),
        sequence_s=of(calibration.sequence_s, engine),
        fast_bytes_per_s=fast * calibration.link_frac,
        slow_bytes_per_s=slow * calibration.link_frac,
        n_fast=float(cluster.n_fast),
        message_s=calibration.message_s,
    )


def rates_table(rows: list[ServingRates]) -> ServingRates:
    """Many chips and engines as columns."""
    return ServingRates(*(np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)))


def serving_step_s(step: ServingWork, rates: ServingRates) -> Column:
    """Seconds of one step, all pipeline stages one after the other."""
    s = step.situations
    seconds = s.column(0) + step.n_layers * rates.layer_s + rates.step_s + rates.sequence_s * s.n_decode
    for work in step.work:
        seconds = seconds + serving_work_s(work, rates)
    for transfer in step.transfers:
        seconds = seconds + transfer_s(transfer, rates)
    return seconds


def serving_work_s(work: Work, rates: ServingRates) -> Column:
    """Seconds of all calls of one operation."""
    products = work.kind is OpKind.MATMUL
    bytes_per_s = rates.weights_bytes_per_s if products else rates.bytes_per_s
    flops_per_s = rates.product_flops_per_s if products else rates.attention_flops_per_s
    seconds: Column = work.calls * np.maximum(work.flops / flops_per_s, work.bytes / bytes_per_s)
    return seconds
