"""A chip as a forecast of serving needs it: with a 16-bit peak, which chips made only for inference often lack.

Where only an 8- or 4-bit peak is published, 16 bits are taken to run at half or a quarter of it. Where none is, and the
memory is all SRAM, it is taken to multiply and add once for every 16-bit weight that it can read: designs that keep
weights beside the multipliers are built so that neither waits. Each such figure is assumed, and said to be.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from twobills.specs.dtype import DType
from twobills.specs.hardware import ChipSpec

_HALVES = {DType.FP8: 2, DType.INT8: 2, DType.FP4: 4, DType.INT4: 4}


class ServingChip(NamedTuple):
    """The chip, and what of it is assumed."""

    chip: ChipSpec
    assumed: tuple[str, ...] = ()


def serving_chip(chip: ChipSpec) -> ServingChip:
    """The chip with a 16-bit peak, as it is where it has one or nothing tells it."""
    peaks = chip.peak_flops_per_s
    if DType.BF16 in peaks or DType.FP16 in peaks:
        return ServingChip(chip)
    for dtype, factor in _HALVES.items():
        if dtype in peaks:
            words = f"16-bit peak of {chip.name}: not published, taken as 1/{factor} of its {dtype} peak"
            return ServingChip(_with_peak(chip, peaks[dtype] / factor), (words,))
    if (chip.memory_kind or "").upper() == "SRAM" and chip.memory_bytes_per_s is not None:
        words = f"16-bit peak of {chip.name}: not published, taken as one multiply-add for each weight it can read"
        return ServingChip(_with_peak(chip, 2 * chip.memory_bytes_per_s / DType.BF16.bytes), (words,))
    return ServingChip(chip)


def _with_peak(chip: ChipSpec, peak_flops_per_s: float) -> ChipSpec:
    return replace(chip, peak_flops_per_s={**chip.peak_flops_per_s, DType.BF16: peak_flops_per_s})
