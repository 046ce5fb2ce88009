"""Rates: dollars per unit of usage, each with where it comes from.

A rented chip-hour includes its power, so joules are shown on such a bill and cost nothing again. Owned machines
(amortised capital, power, hosting) would be another function here that returns the same type.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from twobills.errors import SpecError
from twobills.specs.prices import ChipPrice
from twobills.units import SECONDS_PER_DAY, per_hour_to_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a chip-second and a joule cost."""

    usd_per_chip_s: float
    usd_per_j: float
    """0 where the chip-second includes power."""
    source: str
    as_of: str
    assumed: bool
    """Whether these are a stand-in for what the user really pays."""

    def __post_init__(self) -> None:
        if self.usd_per_chip_s < 0 or self.usd_per_j < 0:
            raise SpecError(
                f"rates of {self.usd_per_chip_s} USD/chip-s and {self.usd_per_j} USD/J: must not be below 0"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, base units in the key names."""
        return {
            "usd_per_chip_s": self.usd_per_chip_s,
            "usd_per_j": self.usd_per_j,
            "source": self.source,
            "as_of": self.as_of,
            "assumed": self.assumed,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Rates:
        """The rates that ``to_json`` wrote."""
        return cls(**document)


def machine_usd_per_day(rates: Rates, *, n_chips: int, watts_per_chip: float | None) -> float:
    """USD for a day of a whole machine that is always on. Raises SpecError where its power is paid but not known."""
    if rates.usd_per_j and watts_per_chip is None:
        raise SpecError("watts_per_chip: not known for this chip, and its power is paid for; give the chip's watts")
    return n_chips * SECONDS_PER_DAY * (rates.usd_per_chip_s + (watts_per_chip or 0.0) * rates.usd_per_j)


def rented(price: ChipPrice) -> Rates:
    """Rates of a rented chip: power is in the chip-hour."""
    return Rates(
        usd_per_chip_s=price.usd_per_chip_s,
        usd_per_j=0.0,
        source=price.source,
        as_of=price.as_of,
        assumed=price.assumed,
    )


def at_user_price(usd_per_chip_hour: float, *, as_of: str) -> Rates:
    """Rates of a rented chip at what the user pays on that day. Raises SpecError if it is no price."""
    if not math.isfinite(usd_per_chip_hour):
        raise SpecError(f"usd_per_chip_hour={usd_per_chip_hour}: must be a number of dollars")
    return Rates(
        usd_per_chip_s=per_hour_to_per_s(usd_per_chip_hour),
        usd_per_j=0.0,
        source="given by the user",
        as_of=as_of,
        assumed=False,
    )
