"""What a second of an owned chip costs: capital for chip, server and network; power; the building and its upkeep.

How capital is written off is a convention, and conventions differ by up to two times, so each cost names its own:
straight line over the life (company accounts), declining value by age (Epoch AI), or an annuity (adds the cost of
capital). Hours that are owned and not used are paid by the used ones; their power is left out, and so are software,
land, taxes and staff beyond the building's. Epoch AI's factors; see ``data/running.toml``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from twobills.errors import SpecError
from twobills.money.rates import Rates
from twobills.specs.running import SECONDS_PER_YEAR, Running


class Amortization(StrEnum):
    """How capital becomes a cost per second."""

    STRAIGHT_LINE = "straight line"
    """Price / life, whatever the age: what company accounts show."""
    DECLINING = "declining value"
    """The value that is lost at this age: price x 10^(-0.14 t) x 0.14 ln 10 a year. Ref: Cottier et al. 2024,
    arXiv:2405.21015; the code's constants as of 2026-04-01."""
    ANNUITY = "annuity"
    """Equal payments over the life that also pay interest on what is not yet paid back."""


class MeterPoint(StrEnum):
    """Where joules are counted; what lies between there and the grid comes on top."""

    CHIP = "chip"
    SERVER = "server"
    FACILITY = "facility"


class Ownership(NamedTuple):
    """USD per second of one used chip, by what it pays for."""

    chip: float
    server: float
    """Of the servers, what is not chips."""
    network: float
    financing: float
    """Interest; the annuity's alone."""
    power: float
    """At the mean draw, cooling included."""
    hosting: float
    """The building's share and its upkeep."""
    usd_per_j: float
    """Of a joule at the server's plug, cooling included."""
    server_power_factor: float
    pue: float
    convention: Amortization
    estimated: bool = True

    @property
    def capital(self) -> float:
        """Everything that is paid whether the chip computes or not, hosting included, USD per chip-second."""
        return self.chip + self.server + self.network + self.financing + self.hosting

    @property
    def total(self) -> float:
        """USD per chip-second, power at the mean draw included."""
        return self.capital + self.power

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, USD per chip-second."""
        parts = ("chip", "server", "network", "financing", "power", "hosting", "total")
        return {
            **{f"{part}_usd_per_chip_s": getattr(self, part) for part in parts},
            "usd_per_j": self.usd_per_j,
            "convention": self.convention.value,
            "estimated": self.estimated,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedChip:
    """A chip as it is bought."""

    price_usd: float
    watts: float
    """Rated watts of the chip alone."""
    age_s: float = 0.0
    """Since it was bought; the declining value alone depends on it."""

    def __post_init__(self) -> None:
        for name in ("price_usd", "watts", "age_s"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise SpecError(f"{name}={value:g}: must be a number, not below 0")


def ownership(chip: OwnedChip, running: Running, convention: Amortization = Amortization.STRAIGHT_LINE) -> Ownership:
    """USD per used second of one owned chip.

    A price that is a share of a whole server needs ``server_factor=1``.
    """
    per_s = write_off_per_s(running, convention, age_s=chip.age_s) / running.utilization_frac
    paid_back_per_s = per_s if convention is Amortization.DECLINING else 1 / running.life_s / running.utilization_frac
    server_usd = chip.price_usd * (running.server_factor - 1)
    network_usd = (chip.price_usd + server_usd) * (running.network_factor - 1)
    server_w = chip.watts * running.server_power_factor
    hosting = running.facility_usd_per_w / running.facility_life_s + running.facility_opex_usd_per_w_s
    usd_per_j = running.electricity_usd_per_j * running.pue
    return Ownership(
        chip=chip.price_usd * paid_back_per_s,
        server=server_usd * paid_back_per_s,
        network=network_usd * paid_back_per_s,
        financing=(chip.price_usd + server_usd + network_usd) * max(0.0, per_s - paid_back_per_s),
        power=server_w * running.mean_draw_frac * usd_per_j,
        hosting=server_w * hosting / running.utilization_frac,
        usd_per_j=usd_per_j,
        server_power_factor=running.server_power_factor,
        pue=running.pue,
        convention=convention,
    )


def write_off_per_s(running: Running, convention: Amortization, *, age_s: float = 0.0) -> float:
    """Share of the price that one second costs, 1/s."""
    if convention is Amortization.STRAIGHT_LINE:
        return 1 / running.life_s
    if convention is Amortization.DECLINING:
        rate = running.decline_oom_per_year * math.log(10) / SECONDS_PER_YEAR
        return rate * math.exp(-rate * age_s)
    interest = math.log1p(running.cost_of_capital_frac) / SECONDS_PER_YEAR
    # Paid continuously; r -> 0 is the straight line.
    return interest / -math.expm1(-interest * running.life_s) if interest else 1 / running.life_s


def owned(cost: Ownership, *, as_of: str, joules_at: MeterPoint = MeterPoint.SERVER) -> Rates:
    """Rates of an owned chip: capital and hosting by the chip-second, power by the joule where it is counted."""
    usd_per_j = {
        MeterPoint.CHIP: cost.usd_per_j * cost.server_power_factor,
        MeterPoint.SERVER: cost.usd_per_j,
        MeterPoint.FACILITY: cost.usd_per_j / cost.pue,
    }[joules_at]
    return Rates(
        usd_per_chip_s=cost.capital,
        usd_per_j=usd_per_j,
        source=f"owned, {cost.convention}; joules at the {joules_at}",
        as_of=as_of,
        assumed=True,
    )
