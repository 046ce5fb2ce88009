from __future__ import annotations

import pytest

from tests.machines import machine
from twobills.specs.dtype import DType
from twobills.specs.efficiency import OpKind


def test_a_call_shared_by_equal_machines_takes_a_share_of_the_time() -> None:
    one = machine().efficiency
    four = one.times(4)
    for kind in (OpKind.MATMUL, OpKind.ATTENTION):
        for flops in (1e3, 1e9):
            assert four.flops_rate(kind, DType.BF16, 4 * flops) == 4 * one.flops_rate(kind, DType.BF16, flops)
    assert four.bytes_rate(OpKind.SOFTMAX, 4e6) == pytest.approx(4 * one.bytes_rate(OpKind.SOFTMAX, 1e6))
    assert four.call_overhead_s == one.call_overhead_s
