"""What one chip of a cluster achieves: its data sheet times the calibration's fractions, under one software stack.

Figures are plain floats for one cluster, or columns of a table of clusters: the timing works on either. A chip with
less power for its peak than its family had when it was fitted clocks lower: dynamic power goes with about the square
of the clock's rate near the limit, so products go with the root of the power (assumed, not fitted).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from twobills.counts.layouts import Column
from twobills.specs.calibration import Calibration
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.parallel import Stack

Figure = float | Column
CALL_S = 4e-6
"""Assumed: what one kernel costs beyond its work. Large steps hide launches, not the gaps between kernels."""
MESSAGE_S = 10e-6
"""Assumed: what one collective costs beyond its bytes, for each doubling of its ranks."""
FAMILY_J_PER_FLOP = {"ampere": 400 / 312e12, "hopper": 700 / 989.4e12, "blackwell": 1200 / 2500e12}
"""Rated power over dense 16-bit peak at which a family's fraction was fitted: A100 SXM, H100 SXM, GB200."""
MOST_FROM_POWER = 1.1
"""No chip is taken to gain more than this: beyond it something else than power limits (or a CPU shares the rating)."""
_TUNED = (Stack.FUSED, Stack.OVERLAPPED)


class Achieved(NamedTuple):
    """Rates per second, of one chip."""

    product_flops_per_s: Figure
    """Large 16-bit products."""
    fp8_flops_per_s: Figure
    attention_flops_per_s: Figure
    half_rate_flops: Figure
    """FLOPs of the product that runs at half of its rate."""
    bytes_per_s: Figure
    passes: Figure
    fast_bytes_per_s: Figure
    slow_bytes_per_s: Figure
    n_fast: Figure
    data_overlap: Figure
    tensor_overlap: Figure
    straggling: Figure
    peak_flops_per_s: Figure
    """Of the data sheet, 16 bits: MFU's denominator."""
    log_sigma: Figure
    message_s: Figure = MESSAGE_S
    square: bool = False
    """Whether attention runs without a flash kernel; one answer for a whole table."""


def achieved(cluster: ClusterSpec, stack: Stack, calibration: Calibration) -> Achieved:
    """What a chip of ``cluster`` achieves under ``stack``. A missing link rate is the slower one that is known."""
    chip, family = cluster.chip, cluster.chip.family or ""
    peak = cluster.peak(DType.BF16)
    products = _of_family(calibration.matmul_frac, family) * power_factor(family, chip.watts, peak)
    attention = _of_family(calibration.attention_frac, family)
    if stack in _TUNED and family not in {"volta", "ampere"}:
        attention *= calibration.tuned_attention
    if stack is Stack.COMPILED and family not in {"volta", "ampere"}:
        attention *= calibration.tuned_attention**0.5
    fast, slow = links_of(cluster)
    return Achieved(
        product_flops_per_s=peak * products,
        fp8_flops_per_s=chip.peak_flops_per_s.get(DType.FP8, peak) * products,
        attention_flops_per_s=peak * attention * power_factor(family, chip.watts, peak),
        half_rate_flops=peak * calibration.half_rate_s,
        bytes_per_s=(chip.memory_bytes_per_s or 0.0) * calibration.bandwidth_frac,
        passes=calibration.passes["eager" if stack is Stack.EAGER else "fused"],
        fast_bytes_per_s=fast * calibration.link_frac,
        slow_bytes_per_s=slow * calibration.network_frac,
        n_fast=float(cluster.n_fast),
        data_overlap=calibration.data_overlap,
        tensor_overlap=calibration.tensor_overlap if stack is Stack.OVERLAPPED else 0.0,
        straggling=calibration.straggling,
        peak_flops_per_s=peak,
        log_sigma=calibration.log_sigma if family in calibration.matmul_frac else calibration.log_sigma_unseen,
        square=stack is Stack.EARLY,
    )


def table(rows: list[Achieved]) -> Achieved:
    """Many clusters as columns."""
    names = [name for name in Achieved._fields if name != "square"]
    columns: dict[str, Any] = {name: np.array([getattr(row, name) for row in rows]) for name in names}
    return Achieved(**columns)


def _of_family(fractions: Mapping[str, float], family: str) -> float:
    return fractions.get(family, math.fsum(fractions.values()) / len(fractions))


def power_factor(family: str, watts: float | None, peak_flops_per_s: float) -> float:
    """How much faster or slower products run than the family's fitted share of the peak, for the chip's power."""
    usual = FAMILY_J_PER_FLOP.get(family)
    if usual is None or watts is None:
        return 1.0
    return min(MOST_FROM_POWER, math.sqrt(watts / peak_flops_per_s / usual))


def links_of(cluster: ClusterSpec) -> tuple[float, float]:
    """Bytes/s of a chip over fast links and network; one that is not known is the other, none at all is infinite."""
    chip = cluster.chip
    slow = cluster.scaleout_bytes_per_s or chip.scaleout_bytes_per_s
    fast = chip.scaleup_bytes_per_s
    if slow is None:
        slow = fast
    if fast is None:
        fast = slow
    if slow is None or fast is None:
        return math.inf, math.inf
    return fast, slow
