"""How long a step of a serving engine takes, for many situations at once.

Every operation takes the longer of its FLOPs and its bytes over what chip and engine achieve, transfers between
tensor-parallel ranks wait, and the engine adds what it costs beside the arithmetic: for each layer, step and sequence.
Attention ranks schedule their own sequences beside each other. No rate passes the data sheet's, whatever was fitted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from twobills.counts.layouts import Column
from twobills.counts.serving_step import ServingWork
from twobills.counts.sharded_step import Work
from twobills.perf.achieved import Figure, links_of, power_factor
from twobills.perf.links import transfer_s
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.efficiency import OpKind
from twobills.specs.engine import Engine
from twobills.specs.hardware import ChipSpec
from twobills.specs.serving_calibration import ServingCalibration, of_engine, of_family


class ServingRates(NamedTuple):
    """What one chip achieves in serving; floats, or columns."""

    product_flops_per_s: Figure
    attention_flops_per_s: Figure
    bytes_per_s: Figure
    layer_s: Figure
    prompt_layer_s: Figure
    prompt_wait: Figure
    """How many times as long as alone a prompt is read beside others."""
    step_s: Figure
    sequence_s: Figure
    fast_bytes_per_s: Figure
    slow_bytes_per_s: Figure
    n_fast: Figure
    message_s: Figure


def serving_rates(
    cluster: ClusterSpec, engine: Engine, compute: DType, calibration: ServingCalibration
) -> ServingRates:
    """Rates of a chip whose products run in ``compute``."""
    chip, group = cluster.chip, product_group(cluster.chip)
    peak16 = cluster.peak(DType.BF16)
    share = of_family(calibration.product_frac, group) * power_factor(group, chip.watts, peak16)
    if engine is Engine.NATIVE:
        share *= calibration.native_product_frac
    low = compute.bytes < DType.BF16.bytes and compute in chip.peak_flops_per_s
    peak = chip.peak_flops_per_s[compute] if low else peak16
    bandwidth_frac = of_engine(calibration.bandwidth_frac, engine) * calibration.memory_frac.get(
        memory_group(chip), 1.0
    )
    fast, slow = links_of(cluster)
    return ServingRates(
        product_flops_per_s=peak * share,
        attention_flops_per_s=peak16 * calibration.attention_frac,
        bytes_per_s=(chip.memory_bytes_per_s or 0.0) * min(bandwidth_frac, 1.0),
        layer_s=of_engine(calibration.layer_s, engine),
        prompt_layer_s=calibration.prompt_layer_s,
        prompt_wait=of_engine(calibration.prompt_wait, engine),
        step_s=of_engine(calibration.step_s, engine),
        sequence_s=of_engine(calibration.sequence_s, engine),
        fast_bytes_per_s=fast * calibration.link_frac,
        slow_bytes_per_s=slow * calibration.link_frac,
        n_fast=float(cluster.n_fast),
        message_s=calibration.message_s,
    )


def product_group(chip: ChipSpec) -> str:
    """Hardware families whose products are alike for the fit."""
    family = chip.family or ""
    if family.startswith("cdna"):
        return "cdna"
    if family in {"apple", "rdna3", "xe2", "turing", "cpu"}:
        return "client"
    return family if family in {"ampere", "hopper", "blackwell", "ada"} else "other"


def memory_group(chip: ChipSpec) -> str:
    """Kinds of memory, or makers' software, whose achieved bandwidth is alike for the fit."""
    kind, group = (chip.memory_kind or "").lower(), product_group(chip)
    if kind.startswith(("gddr", "lpddr", "ddr")):
        return "gddr" if kind.startswith("gddr") else "lpddr"
    return group if group in {"cdna", "other"} else "hbm"


def rates_table(rows: list[ServingRates]) -> ServingRates:
    """Many chips and engines as columns."""
    return ServingRates(*(np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)))


def serving_step_s(step: ServingWork, rates: ServingRates) -> Column:
    """Seconds of one step, all pipeline stages one after the other."""
    s = step.situations
    with_prompt = np.minimum(s.n_prompt / np.maximum(s.prompt_context, 1.0), 1.0)
    per_layer_s = rates.layer_s + rates.prompt_layer_s * with_prompt
    seconds = s.column(0) + step.n_layers * per_layer_s + rates.step_s + rates.sequence_s * s.n_decode / s.dp
    for work in step.work:
        seconds = seconds + serving_work_s(work, rates)
    for transfer in step.transfers:
        seconds = seconds + transfer_s(transfer, rates)
    return seconds


def serving_work_s(work: Work, rates: ServingRates) -> Column:
    """Seconds of all calls of one operation."""
    products = work.kind is OpKind.MATMUL
    flops_per_s = rates.product_flops_per_s if products else rates.attention_flops_per_s
    seconds: Column = work.calls * np.maximum(work.flops / flops_per_s, work.bytes / rates.bytes_per_s)
    return seconds
