"""Both bills over a model's life: training paid once, inference paid for every request, and the day they cross.

Two views of the second bill. Of the chip-seconds *used*: only the time that requests were worked on, as if somebody
else used the rest. Of those *reserved*: as many whole machines as the demand takes, at least one, always on.
Assumes a constant demand and today's prices for ever: growth, price decline and new versions are left out.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from twobills.errors import SpecError
from twobills.units import DAYS_PER_YEAR

REQUESTS_PER_DAY = tuple(10.0**n for n in range(3, 10))
"""The demands that are shown."""


class LifePoint(NamedTuple):
    """One demand: what it costs a day, when it overtakes training, and its share after a year."""

    requests_per_day: float
    usd_per_day: float
    """Of the chip-seconds used."""
    crossover_days: float | None
    """Days until inference has cost as much as training; None if it never does."""
    inference_share_after_year: float
    n_machines: int | None
    """None where machines cost nothing, and so cannot be counted by what they cost."""
    reserved_usd_per_day: float
    """Of whole machines, always on."""
    reserved_crossover_days: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; a crossover that never comes is null with a reason."""
        reason = {} if self.crossover_days is not None else {"reason": "inference costs nothing"}
        return {**self._asdict(), **reason}


def life(
    training_usd: float,
    usd_per_request: float,
    machine_usd_per_day: float,
    demands: tuple[float, ...] = REQUESTS_PER_DAY,
) -> list[LifePoint]:
    """A point for each demand (requests a day).

    ``usd_per_request`` is of the chip-seconds used, ``machine_usd_per_day`` of one serving machine, always on.
    Raises SpecError for negative costs.
    """
    if min(training_usd, usd_per_request, machine_usd_per_day) < 0:
        costs = f"training_usd={training_usd}, usd_per_request={usd_per_request}, machine={machine_usd_per_day}"
        raise SpecError(f"{costs}: must not be below 0")
    return [_point(training_usd, usd_per_request * demand, machine_usd_per_day, demand) for demand in demands]


def _point(training_usd: float, usd_per_day: float, machine_usd_per_day: float, demand: float) -> LifePoint:
    year_usd = usd_per_day * DAYS_PER_YEAR
    both_usd = training_usd + year_usd
    n_machines = max(1, math.ceil(usd_per_day / machine_usd_per_day)) if machine_usd_per_day else None
    reserved_usd = (n_machines or 0) * machine_usd_per_day
    return LifePoint(
        requests_per_day=demand,
        usd_per_day=usd_per_day,
        crossover_days=training_usd / usd_per_day if usd_per_day else None,
        inference_share_after_year=year_usd / both_usd if both_usd else 0.0,
        n_machines=n_machines,
        reserved_usd_per_day=reserved_usd,
        reserved_crossover_days=training_usd / reserved_usd if reserved_usd else None,
    )
