"""Plan against meter: the difference of two bills, split so that every dollar of it has a name.

With work W (tokens), usage per unit of work s, rate r, planned p and measured m, for each resource (chip-seconds,
joules):

    work gap   (W_m - W_p) s_p r_p     more or less was done than planned
    speed gap  W_m (s_m - s_p) r_p     each unit took more or less than planned
    price gap  W_m s_m (r_m - r_p)     each chip-second or joule cost more or less

They add up to measured - planned, exactly and in that order. Time with no work (``idle``, ``lost``) is speed gap.
Work that was not planned at all has no s_p: all it used, at planned rates, is work gap.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from twobills.errors import LedgerError
from twobills.money.bill import Bill, BillLine
from twobills.money.rates import Rates
from twobills.usage import PHASES, Phase


class Gaps(NamedTuple):
    """Dollars of difference by cause, and the two totals that they explain."""

    planned_usd: float
    measured_usd: float
    work_usd: float
    speed_usd: float
    price_usd: float

    @property
    def total_usd(self) -> float:
        """Measured minus planned, as the sum of its causes."""
        return self.work_usd + self.speed_usd + self.price_usd

    def to_json(self) -> dict[str, float]:
        """Plain JSON."""
        return {**self._asdict(), "total_usd": self.total_usd}


class Reconciliation(NamedTuple):
    """The gaps of each phase and of the whole bill."""

    phases: dict[Phase, Gaps]
    total: Gaps

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: the total's keys, and the phases under ``phases``."""
        return {
            **self.total.to_json(),
            "phases": {p.value: gaps.to_json() for p, gaps in self.phases.items()},
        }


def reconcile(planned: Bill, measured: Bill) -> Reconciliation:
    """Splits measured - planned into work, speed and price. Raises LedgerError for bills of different jobs."""
    if planned.job != measured.job:
        raise LedgerError(f"a {planned.job} plan cannot be held against a {measured.job} meter")
    used = {line.phase for bill in (planned, measured) for line in bill.lines}
    phases = {
        phase: _phase_gaps(planned.line(phase), measured.line(phase), planned.rates, measured.rates)
        for phase in PHASES[planned.job]
        if phase in used
    }
    total = Gaps(*(sum(column) for column in zip(*phases.values(), strict=True))) if phases else Gaps(0, 0, 0, 0, 0)
    return Reconciliation(phases, total)


def _phase_gaps(planned: BillLine, measured: BillLine, rates_p: Rates, rates_m: Rates) -> Gaps:
    work_p, work_m = planned.usage.tokens, measured.usage.tokens
    resources = (
        (planned.usage.chip_s, measured.usage.chip_s, rates_p.usd_per_chip_s, rates_m.usd_per_chip_s),
        (planned.usage.energy.total_j, measured.usage.energy.total_j, rates_p.usd_per_j, rates_m.usd_per_j),
    )
    work = speed = price = 0.0
    for used_p, used_m, rate_p, rate_m in resources:
        expected = _expected_usage(work_p, work_m, used_p, used_m)
        work += (expected - used_p) * rate_p
        speed += (used_m - expected) * rate_p
        price += used_m * (rate_m - rate_p)
    return Gaps(planned.usd, measured.usd, work, speed, price)


def _expected_usage(work_p: float, work_m: float, used_p: float, used_m: float) -> float:
    """W_m s_p: what the work that was done would have used at the planned speed."""
    if work_p > 0:
        return work_m * (used_p / work_p)
    return used_m if work_m > 0 else used_p
