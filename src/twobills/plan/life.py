"""Both bills over a model's life: training paid once, inference paid for every request, and the day they cross.

Assumes a constant demand, machines bought by the second as many as it takes, and today's prices for ever: growth,
price decline and new versions are left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from twobills.errors import SpecError
from twobills.units import DAYS_PER_YEAR

REQUESTS_PER_DAY = tuple(10.0**n for n in range(3, 10))
"""The demands that are shown."""


class LifePoint(NamedTuple):
    """One demand: what it costs a day, when it overtakes training, and its share after a year."""

    requests_per_day: float
    usd_per_day: float
    crossover_days: float | None
    """Days until inference has cost as much as training; None if it never does."""
    inference_share_after_year: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; a crossover that never comes is null with a reason."""
        reason = {} if self.crossover_days is not None else {"reason": "inference costs nothing"}
        return {**self._asdict(), **reason}


def life(training_usd: float, usd_per_request: float, demands: tuple[float, ...] = REQUESTS_PER_DAY) -> list[LifePoint]:
    """A point for each demand (requests a day). Raises SpecError for negative costs."""
    if training_usd < 0 or usd_per_request < 0:
        raise SpecError(f"training_usd={training_usd}, usd_per_request={usd_per_request}: must not be below 0")
    return [_point(training_usd, usd_per_request, demand) for demand in demands]


def _point(training_usd: float, usd_per_request: float, requests_per_day: float) -> LifePoint:
    usd_per_day = usd_per_request * requests_per_day
    year_usd = usd_per_day * DAYS_PER_YEAR
    both_usd = training_usd + year_usd
    return LifePoint(
        requests_per_day=requests_per_day,
        usd_per_day=usd_per_day,
        crossover_days=training_usd / usd_per_day if usd_per_day else None,
        inference_share_after_year=year_usd / both_usd if both_usd else 0.0,
    )
