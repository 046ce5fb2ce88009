"""A machine that was not measured, from its data sheet: peaks times the fraction that large operations usually reach.

The fractions are assumptions until calibrated, the same for every chip: 60 % of the dense matrix peak for large
products, 30 % for attention's batched ones, 80 % of the memory bandwidth. A forecast built on them misses by about
a factor of 1.5 either way, and its interval says so.
"""

from __future__ import annotations

from twobills.errors import SpecError
from twobills.specs.efficiency import Curve, Efficiency, OpKind, RateSource
from twobills.specs.hardware import ChipSpec, MachineSpec

MATMUL_FRAC = 0.60
ATTENTION_FRAC = 0.30
BANDWIDTH_FRAC = 0.80
CALL_OVERHEAD_S = 4e-6
LOG_SIGMA = 0.25


def machine_from_datasheet(chip: ChipSpec) -> MachineSpec:
    """One such chip. Raises SpecError for a chip whose rates only measuring tells."""
    if not chip.peak_flops_per_s or chip.memory_bytes is None or chip.memory_bytes_per_s is None:
        raise SpecError(f"chip {chip.name}: has no data-sheet rates; `twobills machine` measures the one you sit at")
    bandwidth: Curve = ((1.0, chip.memory_bytes_per_s * BANDWIDTH_FRAC),)
    efficiency = Efficiency(
        flops_per_s={
            dtype: {
                OpKind.MATMUL: ((1.0, peak * MATMUL_FRAC),),
                OpKind.ATTENTION: ((1.0, peak * ATTENTION_FRAC),),
            }
            for dtype, peak in chip.peak_flops_per_s.items()
        },
        bytes_per_s={OpKind.ELEMENTWISE: bandwidth, OpKind.SOFTMAX: bandwidth},
        call_overhead_s=CALL_OVERHEAD_S,
        log_sigma=LOG_SIGMA,
        source=RateSource.DATASHEET,
    )
    return MachineSpec(chip=chip, n_chips=1, memory_bytes=chip.memory_bytes, efficiency=efficiency)
