"""What a machine really achieves, by kind and size of operation: the only place where reality corrects a data sheet.

A curve holds (size of one call, rate) points and is read by interpolation between them in log space, flat beyond
its ends. On this machine the points are measured by timing single operations, never a training step; for a chip that
was not measured they are its data-sheet peaks times stated fractions. ``log_sigma`` is how far a forecast built on
this is expected to miss, as the standard deviation of ln(actual / forecast); until reconciled runs calibrate it, it
is an assumption and shown as one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

from twobills.errors import SpecError
from twobills.specs.dtype import DType


class OpKind(StrEnum):
    """Kinds of operation whose achieved rates differ."""

    MATMUL = "matmul"
    """A large matrix product; size and rate in FLOPs."""
    ATTENTION = "attention"
    """Many small products in one batched call; size and rate in FLOPs."""
    SOFTMAX = "softmax"
    """Row-wise exponentials; size and rate in bytes."""
    ELEMENTWISE = "elementwise"
    """Streaming arithmetic and reductions; size and rate in bytes."""

    @property
    def is_product(self) -> bool:
        """Whether the kind is bound by FLOPs as well as by bytes."""
        return self in (OpKind.MATMUL, OpKind.ATTENTION)


class RateSource(StrEnum):
    """Where the rates come from."""

    MEASURED = "measured"
    DATASHEET = "data sheet"


Curve = tuple[tuple[float, float], ...]
"""(size of one call, rate per second), sizes ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Rates that the whole machine (all its chips) achieves."""

    flops_per_s: Mapping[DType, Mapping[OpKind, Curve]]
    """Per format, for the product kinds, over the FLOPs of one call."""
    bytes_per_s: Mapping[OpKind, Curve]
    """For the streaming kinds, over the bytes of one call."""
    call_overhead_s: float
    """Fixed cost of one operator call."""
    log_sigma: float
    """Standard deviation of ln(actual / forecast)."""
    source: RateSource

    def __post_init__(self) -> None:
        curves = [c for by_kind in self.flops_per_s.values() for c in by_kind.values()]
        for curve in [*curves, *self.bytes_per_s.values()]:
            sizes = [size for size, _ in curve]
            if not curve or sizes != sorted(sizes) or min(r for _, r in curve) <= 0:
                raise SpecError(f"curve={curve}: needs points with ascending sizes and rates above 0")

    def on_cores(self, n_cores: int, n_all: int) -> Efficiency:
        """Of ``n_all`` CPU cores only ``n_cores`` compute: products slow down in proportion, streams do not."""
        share = n_cores / n_all
        return replace(
            self,
            flops_per_s={
                dtype: {kind: tuple((size, rate * share) for size, rate in curve) for kind, curve in curves.items()}
                for dtype, curves in self.flops_per_s.items()
            },
        )

    def times(self, n: int) -> Efficiency:
        """Of ``n`` machines like this that share every call evenly and need no time to talk."""
        return replace(
            self,
            flops_per_s={
                dtype: {kind: tuple((size * n, rate * n) for size, rate in curve) for kind, curve in curves.items()}
                for dtype, curves in self.flops_per_s.items()
            },
            bytes_per_s={
                kind: tuple((size * n, rate * n) for size, rate in curve) for kind, curve in self.bytes_per_s.items()
            },
        )

    def flops_rate(self, kind: OpKind, dtype: DType, flops_per_call: float) -> float:
        """FLOP/s of a product of this size. Raises SpecError for a format that was not measured."""
        curves = self.flops_per_s.get(dtype)
        if curves is None:
            known = ", ".join(self.flops_per_s)
            raise SpecError(f"dtype={dtype}: this machine has no rate for it; it has {known}")
        return interpolate(curves[kind], flops_per_call)

    def bytes_rate(self, kind: OpKind, bytes_per_call: float) -> float:
        """Bytes/s of a streaming call of this size; products stream like elementwise calls."""
        return interpolate(self.bytes_per_s[OpKind.ELEMENTWISE if kind.is_product else kind], bytes_per_call)


def interpolate(curve: Sequence[tuple[float, float]], size: float) -> float:
    """The rate at ``size``: log-log between the neighbouring points, the end's value beyond it."""
    if size <= curve[0][0]:
        return curve[0][1]
    for (left, left_rate), (right, right_rate) in pairwise(curve):
        if size <= right:
            weight = math.log(size / left) / math.log(right / left)
            return math.exp((1 - weight) * math.log(left_rate) + weight * math.log(right_rate))
    return curve[-1][1]
