"""A model's life in service: how often it is asked, how long, what becomes of prices. Facts, no formula.

Defaults are the plainest life: the same traffic every day, today's prices, no newer version.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from twobills.errors import SpecError

MOST_YEARS = 50.0
_MOST_REQUESTS_PER_DAY = 1e15
"""A hundred thousand a day from each human: what is above it was mistyped."""
FILL_FRAC = 0.8
"""Assumed: a machine is given so much of the traffic that it could take at most; beyond it, waiting grows fast."""
YEARS = 2.0
"""Assumed: how long a model is in service before a newer one takes its place."""


class DemandPoint(NamedTuple):
    """Traffic on one day of the life."""

    day: float
    requests_per_day: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Traffic over the life: at launch, growing for a time, then declining; or a table, straight between its rows."""

    requests_per_day: float = 0.0
    """At launch; a table takes its place."""
    growth_frac: float = 0.0
    """A month, compounded."""
    growth_months: float | None = None
    """How long it grows; None: all of the life."""
    decline_frac: float = 0.0
    """A month, compounded, once it has stopped growing."""
    table: tuple[DemandPoint, ...] = ()
    """Before its first and after its last row, the traffic is that row's."""

    def __post_init__(self) -> None:
        if self.table:
            _check_table(self.table)
            if self.growth_frac or self.decline_frac:
                raise SpecError("traffic: a table says how it grows; leave out growth and decline")
        elif _MOST_REQUESTS_PER_DAY < self.requests_per_day < math.inf:
            raise SpecError(f"requests_per_day={self.requests_per_day:g}: must be at most {_MOST_REQUESTS_PER_DAY:g}")
        elif not 0 < self.requests_per_day < math.inf:
            raise SpecError(
                f"requests_per_day={self.requests_per_day:g}: must be above 0; without traffic there is no second bill"
            )
        if not 0 <= self.growth_frac <= 1:
            raise SpecError(f"growth={self.growth_frac:g}: a month's growth must be from 0 to 1 (100 %)")
        if not 0 <= self.decline_frac < 1:
            raise SpecError(f"decline={self.decline_frac:g}: a month's decline must be from 0 to below 1 (100 %)")
        if self.growth_months is not None and not self.growth_months >= 0:
            raise SpecError(f"growth_months={self.growth_months:g}: must not be below 0")
        if self.decline_frac and self.growth_months is None and self.growth_frac:
            raise SpecError("growth_months: not given; traffic that grows and declines must stop growing at some month")

    @property
    def launch_requests_per_day(self) -> float:
        """Traffic of the first day."""
        return self.table[0].requests_per_day if self.table else self.requests_per_day


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeSpec:
    """Everything about a life that is not a forecast."""

    demand: Demand
    years: float = YEARS
    price_decline_frac: float = 0.0
    """How much less a chip-hour costs each year; below 0 it costs more."""
    discount_frac: float = 0.0
    """A year: what a dollar a year from now is worth less than one today."""
    version_months: float | None = None
    """A newer version every so many months pays the training again; None: this one only."""
    peak_over_mean: float = 1.0
    """Traffic of the busiest hours over the day's mean: machines are there for the former."""
    fill_frac: float = FILL_FRAC

    def __post_init__(self) -> None:
        if not 0 < self.years <= MOST_YEARS:
            raise SpecError(f"years={self.years:g}: must be above 0 and at most {MOST_YEARS:g}")
        if not -1 <= self.price_decline_frac < 1:
            raise SpecError(f"price_decline={self.price_decline_frac:g}: must be from -1 to below 1 (100 % a year)")
        if not 0 <= self.discount_frac <= 1:
            raise SpecError(f"discount={self.discount_frac:g}: must be from 0 to 1 (100 % a year)")
        if self.version_months is not None and not 1 <= self.version_months < math.inf:
            raise SpecError(f"version_months={self.version_months:g}: must be at least 1")
        if not 1 <= self.peak_over_mean <= 100:
            raise SpecError(f"peak_over_mean={self.peak_over_mean:g}: must be from 1 to 100")
        if not 0 < self.fill_frac < 1:
            raise SpecError(f"fill={self.fill_frac:g}: must be above 0 and below 1; a machine that is full only queues")


def _check_table(table: tuple[DemandPoint, ...]) -> None:
    days = [point.day for point in table]
    if days != sorted(set(days)) or days[0] < 0:
        raise SpecError("traffic: days must be 0 or more and grow from row to row")
    for point in table:
        if not 0 <= point.requests_per_day < math.inf:
            raise SpecError(f"traffic: requests_per_day={point.requests_per_day:g} on day {point.day:g}: below 0")
    if not any(point.requests_per_day for point in table):
        raise SpecError("traffic: no requests on any day; without traffic there is no second bill")
