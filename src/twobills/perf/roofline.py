"""How long one operation takes: the slower of its FLOPs and its bytes; calls that move nothing cost their overhead.

The rates are what the machine achieves for that kind and size of operation (``specs.efficiency``), so no utilisation
has to be guessed. Ref: Williams et al. 2009, "Roofline".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from twobills.counts.operations import Operation
from twobills.specs.dtype import DType
from twobills.specs.efficiency import Efficiency


class Timed(NamedTuple):
    """An operation with its time and what bound it: ``compute``, ``memory`` or ``calls``."""

    operation: Operation
    seconds: float
    bound: str


def time_operation(op: Operation, dtype: DType, efficiency: Efficiency) -> Timed:
    """Seconds of all calls of one operation."""
    if not (op.flops or op.bytes):
        return Timed(op, op.calls * efficiency.call_overhead_s, "calls")
    compute_s = memory_s = 0.0
    if op.flops:
        compute_s = op.flops / efficiency.flops_rate(op.kind, dtype, op.flops / op.calls)
    if op.bytes:
        memory_s = op.bytes / efficiency.bytes_rate(op.kind, op.bytes / op.calls)
    return Timed(op, compute_s, "compute") if compute_s >= memory_s else Timed(op, memory_s, "memory")


def time_operations(operations: Iterable[Operation], dtype: DType, efficiency: Efficiency) -> list[Timed]:
    """Every operation with its time, in order; their sum is the step's time, nothing overlaps."""
    return [time_operation(op, dtype, efficiency) for op in operations]
