"""Who gets each dollar of a bill: chip maker, makers of servers and networks, lenders, power, hosting, the provider.

On owned machines the parts are the bill. On rented ones they are what owning such machines is estimated to cost, and
the provider keeps the rest: less than nothing where the rent is below that cost. Of the chip maker's part, what its
own parts cost is told apart where an estimate of them is known. All but the total are estimates.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, NamedTuple

from twobills.errors import SpecError
from twobills.money.bill import Bill
from twobills.money.owned import Amortization, Ownership
from twobills.specs.running import SiliconCost


class Tenure(StrEnum):
    """Whose machines they are."""

    OWNED = "owned"
    RENTED = "rented"


class Payee(StrEnum):
    """Who gets a part."""

    CHIP_MAKER = "chip maker"
    SERVER_MAKERS = "server makers"
    NETWORK_MAKERS = "network makers"
    LENDERS = "lenders"
    POWER = "power"
    HOSTING = "hosting"
    PROVIDER = "provider's margin"


class Part(NamedTuple):
    """What one of them gets."""

    payee: Payee
    usd: float
    estimated: bool = True


class Split(NamedTuple):
    """A bill by who gets it. The parts add up to the total."""

    total_usd: float
    tenure: Tenure
    parts: tuple[Part, ...]
    convention: Amortization
    chip_margin_usd: float | None
    """Of the chip maker's part, its gross margin; None where what the chip costs to make is not known."""
    chip_margin_source: str | None

    def usd(self, payee: Payee) -> float:
        """What one of them gets, USD."""
        return sum(part.usd for part in self.parts if part.payee is payee)

    @property
    def below_cost(self) -> bool:
        """Whether the rent does not cover what owning is estimated to cost."""
        return self.usd(Payee.PROVIDER) < 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; shares are of the total, null for a bill of nothing."""
        return {
            "total_usd": self.total_usd,
            "tenure": self.tenure.value,
            "convention": self.convention.value,
            "below_estimated_cost": self.below_cost,
            "parts": [
                {
                    "payee": part.payee.value,
                    "usd": part.usd,
                    "share_frac": part.usd / self.total_usd if self.total_usd else None,
                    "estimated": part.estimated,
                }
                for part in self.parts
            ],
            "chip_margin_usd": self.chip_margin_usd,
            "chip_margin_source": self.chip_margin_source,
        }


def split_bill(bill: Bill, cost: Ownership, tenure: Tenure, *, silicon: SiliconCost | None = None) -> Split:
    """Who gets each dollar of this bill. Raises SpecError for an owned bill that was not priced at ``cost``."""
    total = bill.usage.total
    rate = bill.rates.usd_per_j if tenure is Tenure.OWNED else None
    power_usd = total.energy.total_j * rate if rate is not None else None
    return split(bill.total_usd, chip_s=total.chip_s, cost=cost, tenure=tenure, power_usd=power_usd, silicon=silicon)


def split(
    total_usd: float,
    *,
    chip_s: float,
    cost: Ownership,
    tenure: Tenure,
    power_usd: float | None = None,
    silicon: SiliconCost | None = None,
) -> Split:
    """Who gets each dollar of a total. ``power_usd`` None takes the mean draw for as long as the chips are reserved.

    Raises SpecError for an owned total that is not what owning costs.
    """
    parts = [
        Part(Payee.CHIP_MAKER, cost.chip * chip_s),
        Part(Payee.SERVER_MAKERS, cost.server * chip_s),
        Part(Payee.NETWORK_MAKERS, cost.network * chip_s),
        Part(Payee.LENDERS, cost.financing * chip_s),
        Part(Payee.POWER, cost.power * chip_s if power_usd is None else power_usd),
        Part(Payee.HOSTING, cost.hosting * chip_s),
    ]
    rest_usd = total_usd - math.fsum(part.usd for part in parts)
    if tenure is Tenure.RENTED:
        parts.append(Part(Payee.PROVIDER, rest_usd))
    elif abs(rest_usd) > 1e-6 * abs(total_usd):
        raise SpecError(
            f"total_usd={total_usd:g}: owning these chips costs {total_usd - rest_usd:g}; "
            "price the bill at the rates of the same ownership, or call it rented"
        )
    margin_frac = None if silicon is None else 1 - silicon.parts_usd / silicon.price_usd
    return Split(
        total_usd=total_usd,
        tenure=tenure,
        parts=tuple(part for part in parts if part.usd or part.payee is not Payee.LENDERS),
        convention=cost.convention,
        chip_margin_usd=None if margin_frac is None else margin_frac * cost.chip * chip_s,
        chip_margin_source=None if silicon is None else silicon.source,
    )
