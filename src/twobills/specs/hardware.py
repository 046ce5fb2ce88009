"""Chips as their makers describe them, and machines: some chips with what they really achieve.

A fact that is not known is None, never a guess; a fact that was remembered rather than read in a source has its name
in ``unverified``. Peaks are dense. Link rates count one direction of all links of one chip together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

from twobills.errors import SpecError
from twobills.specs.dtype import DType
from twobills.specs.efficiency import Efficiency
from twobills.specs.experience import Experience


class Role(StrEnum):
    """Which of the two jobs a chip is made or sold for."""

    TRAINING = "training"
    INFERENCE = "inference"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipSpec:
    """One kind of chip; on a CPU a "chip" is one core where it is rented so, else a socket."""

    name: str
    vendor: str
    source: str
    as_of: str
    verified: bool
    """Whether the source was opened; if not, the whole row is shown as unverified."""
    peak_flops_per_s: Mapping[DType, float]
    """Dense peaks; empty where only measuring tells (CPU cores) or none is published."""
    role: Role = Role.BOTH
    family: str | None = None
    """Architecture, lower case: hopper, cdna3, tpu, ..."""
    year: int | None = None
    """When it was first sold or announced."""
    watts: float | None = None
    """Declared draw under load, W; a hardware counter, where there is one, replaces it."""
    memory_kind: str | None = None
    memory_bytes: float | None = None
    """Memory of one chip as printed; None where the machine must be asked (CPU cores)."""
    usable_memory_bytes: float | None = None
    """Memory as benchmarked systems offer it, where that is less than printed."""
    memory_bytes_per_s: float | None = None
    sram_bytes: float | None = None
    """Last-level cache of a GPU or CPU; all memory on the chip where there is no other."""
    scaleup_chips: int | None = None
    """Chips in one fast domain; 1 where it has no fast links, whose rate is then PCIe's."""
    scaleup_bytes_per_s: float | None = None
    """One chip into its fast domain, one direction, all links."""
    scaleout_bytes_per_s: float | None = None
    """One chip's share of the network of its usual server, one direction; a rented cluster may differ."""
    process_nm: float | None = None
    """Marketing class of the process node."""
    die_mm2: float | None = None
    """All compute dies together."""
    list_price_usd: float | None = None
    """What one chip costs to buy."""
    list_price_as_of: str | None = None
    list_price_note: str = ""
    """What that price is: a launch price, a reseller's, a share of an 8-GPU box, an estimate."""
    unverified: tuple[str, ...] = ()
    """Facts of this row that were remembered or inferred, by field; peaks as ``peak_fp8_flops_per_s``."""
    aliases: tuple[str, ...] = ()
    """Other names that people and data files use."""
    reported_as: tuple[str, ...] = ()
    """Names by which drivers report it."""
    note: str = ""

    def __post_init__(self) -> None:
        for name, figure in self.figures().items():
            if not (figure > 0 and math.isfinite(figure)):
                raise SpecError(f"{name}={figure}: must be a number above 0")
        if self.usable_memory_bytes and self.usable_memory_bytes > (self.memory_bytes or math.inf):
            raise SpecError(
                f"usable_memory_bytes={self.usable_memory_bytes:g}: must not be above memory_bytes="
                f"{self.memory_bytes:g}"
            )
        if unknown := sorted(set(self.unverified) - set(self.figures()) - {"memory_kind"}):
            raise SpecError(f"unverified={unknown[0]!r}: this row states no such fact")

    def figures(self) -> dict[str, float]:
        """All known figures by name, peaks as ``peak_bf16_flops_per_s``."""
        peaks = {peak_name(dtype): rate for dtype, rate in self.peak_flops_per_s.items()}
        known = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "verified"}
        return peaks | {name: value for name, value in known.items() if isinstance(value, int | float)}

    @property
    def cited_source(self) -> str:
        """The source, with a mark if it was not opened."""
        return self.source if self.verified else f"{self.source} [not verified]"


def peak_name(dtype: DType) -> str:
    """How a row names the peak of a number format: ``peak_bf16_flops_per_s``."""
    return f"peak_{dtype}_flops_per_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """Chips that work together, and the rates they achieve together."""

    chip: ChipSpec
    n_chips: int
    memory_bytes: float
    """Memory of all chips together."""
    efficiency: Efficiency
    experience: Experience = field(default_factory=Experience)
    """What its own metered runs taught; nothing for a machine that has none."""
    by_hand: bool = False
    """Whether training here runs our hand-written passes, as one process on a CPU does, and not autograd's."""

    def __post_init__(self) -> None:
        if self.n_chips < 1:
            raise SpecError(f"n_chips={self.n_chips}: must be at least 1")
