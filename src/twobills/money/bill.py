"""Bill = Usage x Rates: the one pricing function, for plans, simulations and meters alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twobills.money.rates import Rates
from twobills.usage import Job, Origin, Phase, PhaseUsage, Usage, phase_to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class BillLine:
    """What one phase used and what that costs."""

    phase: Phase
    usage: PhaseUsage
    chip_usd: float
    energy_usd: float

    @property
    def usd(self) -> float:
        """Dollars of the phase."""
        return self.chip_usd + self.energy_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """One job's bill, phase by phase, with the rates it was priced at."""

    usage: Usage
    rates: Rates
    lines: tuple[BillLine, ...]

    @property
    def job(self) -> Job:
        """Which of the two bills this is."""
        return self.usage.job

    @property
    def origin(self) -> Origin:
        """Where its usage comes from."""
        return self.usage.origin

    @property
    def total_usd(self) -> float:
        """Dollars in all."""
        return sum(line.usd for line in self.lines)

    def line(self, phase: Phase) -> BillLine:
        """The line of one phase, empty if the bill has none."""
        return next((line for line in self.lines if line.phase == phase), _line(phase, PhaseUsage(), self.rates))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, base units in the key names."""
        return {
            "job": self.job.value,
            "origin": self.origin.value,
            "total_usd": self.total_usd,
            "phases": {line.phase.value: {**phase_to_json(line.usage), "usd": line.usd} for line in self.lines},
            "total": phase_to_json(self.usage.total),
            "rates": self.rates.to_json(),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Bill:
        """The bill that ``to_json`` wrote, priced again."""
        return price(Usage.from_json(document), Rates.from_json(document["rates"]))


def price(usage: Usage, rates: Rates) -> Bill:
    """The bill for a usage, USD."""
    lines = tuple(_line(phase, used, rates) for phase, used in usage.phases.items())
    return Bill(usage=usage, rates=rates, lines=lines)


def busy_usd(bill: Bill) -> float:
    """USD of an inference bill without its waiting: of the chip-seconds that requests were worked on."""
    return sum(line.usd for line in bill.lines if line.phase != Phase.IDLE)


def _line(phase: Phase, used: PhaseUsage, rates: Rates) -> BillLine:
    return BillLine(
        phase=phase,
        usage=used,
        chip_usd=used.chip_s * rates.usd_per_chip_s,
        energy_usd=used.energy.total_j * rates.usd_per_j,
    )
