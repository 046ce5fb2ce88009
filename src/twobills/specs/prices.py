"""What a chip-hour costs, and how far that can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from twobills.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipPrice:
    """One price of one chip-second, rented; power is in it."""

    chip: str
    usd_per_chip_s: float
    kind: str
    """on_demand, spot, reserved, or user for one given on the command line."""
    source: str
    as_of: str
    assumed: bool
    """Whether this is a stand-in rather than what the user really pays."""

    def __post_init__(self) -> None:
        if self.usd_per_chip_s < 0:
            raise SpecError(f"usd_per_chip_s={self.usd_per_chip_s}: must not be below 0")
