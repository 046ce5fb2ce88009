"""Machines for tests, their rates stated and not measured."""

from __future__ import annotations

from twobills.money.rates import Rates
from twobills.specs import catalog
from twobills.specs.dtype import DType
from twobills.specs.efficiency import Curve, Efficiency, OpKind, RateSource
from twobills.specs.hardware import MachineSpec

RATES = Rates(usd_per_chip_s=1e-5, usd_per_j=0.0, source="a test", as_of="2026-01-01", assumed=True)


def machine(*, flops: float = 4e11, bandwidth: float = 3e10, overhead_s: float = 3e-6) -> MachineSpec:
    """Two cores with flat rates."""
    product: Curve = ((1.0, flops),)
    stream: Curve = ((1.0, bandwidth),)
    efficiency = Efficiency(
        flops_per_s={d: {OpKind.MATMUL: product, OpKind.ATTENTION: product} for d in (DType.BF16, DType.FP32)},
        bytes_per_s={OpKind.ELEMENTWISE: stream, OpKind.SOFTMAX: stream},
        call_overhead_s=overhead_s,
        log_sigma=0.2,
        source=RateSource.MEASURED,
    )
    chip = catalog.chip("cpu-core")
    return MachineSpec(chip=chip, n_chips=2, memory_bytes=16e9, efficiency=efficiency, by_hand=True)
