"""What a life's figures hang on: each assumption low and high, everything else as planned, the widest swing first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twobills.plan.life import LifeCase, crossover_days, live


class Side(NamedTuple):
    """One end of an assumption: how it is called and the life that it makes."""

    label: str
    case: LifeCase


class Assumption(NamedTuple):
    """What could be otherwise."""

    name: str
    low: Side
    high: Side
    change: str
    """How a user sets it."""


class Ending(NamedTuple):
    """What a life comes to."""

    label: str
    total_usd: float
    crossover_days: float
    """inf where it does not come."""


class Swing(NamedTuple):
    """What an assumption moves."""

    name: str
    low: Ending
    high: Ending
    change: str

    @property
    def usd(self) -> float:
        """Both bills between its ends."""
        return abs(self.high.total_usd - self.low.total_usd)


def tornado(assumptions: Sequence[Assumption]) -> list[Swing]:
    """The swings of both bills over the life, widest first; those that move nothing are left out."""
    swings = [Swing(each.name, _ending(each.low), _ending(each.high), each.change) for each in assumptions]
    moving = [swing for swing in swings if swing.usd > 1e-9 * max(swing.low.total_usd, swing.high.total_usd)]
    return sorted(moving, key=lambda swing: -swing.usd)


def _ending(side: Side) -> Ending:
    bills = live(side.case)
    total = bills.at_end(bills.training_usd) + bills.at_end(bills.inference_usd)
    return Ending(side.label, float(total), float(crossover_days(bills)[0]))
