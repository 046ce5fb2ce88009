"""Chips that train together: how many, how the fast links group them, what the network gives each."""

from __future__ import annotations

from dataclasses import dataclass

from twobills.errors import SpecError
from twobills.specs.dtype import DType
from twobills.specs.hardware import ChipSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """``n_chips`` of one kind. Raises SpecError where the chip's row lacks a figure that a forecast needs."""

    chip: ChipSpec
    n_chips: int
    scaleout_bytes_per_s: float | None = None
    """Network of one chip, one direction; None: what the chip's usual server has."""

    def __post_init__(self) -> None:
        if self.n_chips < 1:
            raise SpecError(f"n_chips={self.n_chips}: must be at least 1")
        if self.scaleout_bytes_per_s is not None and self.scaleout_bytes_per_s <= 0:
            raise SpecError(f"scaleout_bytes_per_s={self.scaleout_bytes_per_s}: must be above 0")
        for field in ("memory_bytes", "memory_bytes_per_s"):
            if getattr(self.chip, field) is None:
                raise SpecError(f"chip {self.chip.name}: {field} is not known, so no training step can be forecast")
        if self.train_peak is None:
            raise SpecError(f"chip {self.chip.name}: has no 16-bit format with a known peak, so it cannot train here")

    @property
    def train_peak(self) -> float | None:
        """Dense peak of the 16-bit format that training uses, FLOP/s."""
        peaks = self.chip.peak_flops_per_s
        return peaks.get(DType.BF16, peaks.get(DType.FP16))

    @property
    def n_fast(self) -> int:
        """Chips of one fast domain, at most all of them."""
        return min(self.chip.scaleup_chips or 1, self.n_chips)

    @property
    def memory_bytes(self) -> float:
        """Memory of one chip as systems offer it."""
        return self.chip.usable_memory_bytes or self.chip.memory_bytes or 0.0

    def check_links(self) -> None:
        """Raises SpecError where several chips are joined by nothing that is known: timed, they would be free."""
        rates = (self.scaleout_bytes_per_s, self.chip.scaleout_bytes_per_s, self.chip.scaleup_bytes_per_s)
        if self.n_chips > 1 and all(rate is None for rate in rates):
            raise SpecError(
                f"chip {self.chip.name}: neither its links nor its network are known, so {self.n_chips} of them cannot "
                "be forecast; give the network of one chip in a --catalog file (scaleout_gbit_per_s)"
            )

    def peak(self, dtype: DType) -> float:
        """Dense peak in a format, FLOP/s. Raises SpecError, naming the formats there are."""
        peak = self.train_peak if dtype in (DType.BF16, DType.FP16) else self.chip.peak_flops_per_s.get(dtype)
        if peak is None:
            known = ", ".join(self.chip.peak_flops_per_s)
            raise SpecError(f"dtype={dtype}: chip {self.chip.name} has no peak in that format; it has {known}")
        return peak
