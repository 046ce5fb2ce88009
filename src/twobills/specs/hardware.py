"""Chips as their makers describe them, and machines: some chips with what they really achieve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twobills.errors import SpecError
from twobills.specs.dtype import DType
from twobills.specs.efficiency import Efficiency


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipSpec:
    """One kind of chip; on a CPU a "chip" is one core, as it is rented."""

    name: str
    vendor: str
    watts: float
    """Declared draw under load, W; a hardware counter, where there is one, replaces it."""
    source: str
    as_of: str
    verified: bool
    """Whether the source was opened; if not, it is shown as unverified."""
    peak_flops_per_s: Mapping[DType, float]
    """Dense peaks; empty where only measuring tells (CPU cores)."""
    memory_bytes: float | None = None
    """Memory of one chip; None where the machine must be asked (CPU cores)."""
    memory_bytes_per_s: float | None = None
    reported_as: tuple[str, ...] = ()
    """Names by which drivers report it."""
    note: str = ""

    def __post_init__(self) -> None:
        if self.watts <= 0:
            raise SpecError(f"watts={self.watts}: must be above 0")

    @property
    def cited_source(self) -> str:
        """The source, with a mark if it was not opened."""
        return self.source if self.verified else f"{self.source} [not verified]"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """Chips that work together, and the rates they achieve together."""

    chip: ChipSpec
    n_chips: int
    memory_bytes: float
    """Memory of all chips together."""
    efficiency: Efficiency

    def __post_init__(self) -> None:
        if self.n_chips < 1:
            raise SpecError(f"n_chips={self.n_chips}: must be at least 1")
