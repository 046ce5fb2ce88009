"""Prices of chips, the default among several, and how far one can be trusted.

The default is what a stranger would pay by the hour today: of the newest year's on-demand prices the median, and of
an even number the dearer middle one, so that it is always a price which somebody really asked and does not flatter
the bill. Where nobody rents a chip on demand, the next kind in ``PriceKind``'s order takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from twobills.errors import SpecError


class PriceKind(StrEnum):
    """On which terms; those that make the better default first."""

    ON_DEMAND = "on_demand"
    LIST = "list"
    """A provider's printed price that does not say on which terms."""
    RESERVED_1Y = "reserved_1y"
    RESERVED_3Y = "reserved_3y"
    OWN = "own"
    """What the user's own machine costs him."""
    SPOT = "spot"
    """May be taken away at any time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipPrice:
    """One price of one chip-second, rented; power is in it."""

    chip: str
    usd_per_chip_s: float
    kind: PriceKind
    source: str
    as_of: str
    """The day, or the month or the year where that is all that is known."""
    assumed: bool
    """Whether this is a stand-in rather than what the user really pays."""
    provider: str = ""
    region: str = ""

    def __post_init__(self) -> None:
        if not (self.usd_per_chip_s >= 0 and math.isfinite(self.usd_per_chip_s)):
            raise SpecError(f"usd_per_chip_s={self.usd_per_chip_s}: must not be below 0")

    @property
    def year(self) -> str:
        """The year it is of."""
        return self.as_of[:4]


def default_price(prices: Sequence[ChipPrice]) -> ChipPrice:
    """The one of these prices of one chip that stands where the user gives none; there must be at least one."""
    kind = next(kind for kind in PriceKind if any(price.kind is kind for price in prices))
    of_kind = [price for price in prices if price.kind is kind]
    newest = max(price.year for price in of_kind)
    current = sorted((price for price in of_kind if price.year == newest), key=_usd)
    return current[len(current) // 2]


def _usd(price: ChipPrice) -> float:
    return price.usd_per_chip_s
