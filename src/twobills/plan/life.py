"""Both bills over a model's life: training paid once, or for each version, inference every day; and when they cross.

Two views of the second bill. Of the chip-seconds *used*: only the time that requests were worked on, as if somebody
else used the rest. Of those *reserved*: as many whole machines as the busiest hours take, at least one, always on; that
is what a life costs. Traffic may grow, decline or follow a table, chips may get cheaper, later dollars may count less.
Every cost may be a column of samples (n, 1): all lives are then followed at once. Between two days of the grid traffic
is taken as its middle's; prices and discount are integrated exactly, so a constant life is exact.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.errors import SpecError
from twobills.specs.life import Demand, LifeSpec
from twobills.units import DAYS_PER_YEAR

REQUESTS_PER_DAY = tuple(10.0**n for n in range(3, 10))
"""The constant demands that are shown."""
DAYS_PER_MONTH = DAYS_PER_YEAR / 12
HORIZON_YEARS = 100.0
"""A crossing is sought so far, or to the end of a longer life."""
_STEPS = 400
_LATER_STEPS = 200
Samples = NDArray[np.float64]


class Serving(NamedTuple):
    """What answers cost; each a number or a column of samples."""

    usd_per_request: float | Samples
    """Of the chip-seconds used."""
    usd_per_machine_day: float | Samples
    """Of one machine, always on."""
    requests_per_machine_day: float | Samples
    """At most, all of its time."""


class LifeCase(NamedTuple):
    """One life: what training costs, what answers cost, how the model is used."""

    training_usd: float | Samples
    serving: Serving
    spec: LifeSpec


class Bills(NamedTuple):
    """Both bills so far, on each day of a grid that goes on beyond the life; last axis: days."""

    days: Samples
    """A day on which a version is trained stands there twice, before and after."""
    requests: Samples
    training_usd: Samples
    inference_usd: Samples
    """Of whole machines, always on."""
    used_usd: Samples
    """Of the chip-seconds used."""
    n_machines: Samples
    """From each day to the next: one shorter."""
    life_days: float

    @property
    def end(self) -> int:
        """Index of the life's last day."""
        return int(np.searchsorted(self.days, self.life_days, side="left"))

    def at_end(self, column: Samples) -> Samples:
        """One of the columns at the end of the life."""
        return np.asarray(column[..., self.end])


def live(case: LifeCase, *, demand_factor: float | Samples = 1.0) -> Bills:
    """The bills of a life whose traffic is ``demand_factor`` times the spec's. Raises SpecError for negative costs."""
    spec, serving = case.spec, case.serving
    _check(case)
    days = _grid(spec)
    span, middle = np.diff(days), (days[1:] + days[:-1]) / 2
    demand = demand_factor * requests_per_day(spec.demand, np.minimum(middle, spec.years * DAYS_PER_YEAR))
    worth = _worth(spec, days[:-1], span)
    n_machines = machines_for(demand, serving.requests_per_machine_day, spec)
    return Bills(
        days=days,
        requests=_summed(demand * span),
        training_usd=case.training_usd * _versions(spec, days),
        inference_usd=_summed(n_machines * serving.usd_per_machine_day * worth),
        used_usd=_summed(demand * serving.usd_per_request * worth),
        n_machines=n_machines,
        life_days=spec.years * DAYS_PER_YEAR,
    )


def machines_for(demand: float | Samples, requests_per_machine_day: float | Samples, spec: LifeSpec) -> Samples:
    """Machines that keep each below the spec's fill in the busiest hours, at least one."""
    filled = demand * spec.peak_over_mean / (requests_per_machine_day * np.float64(spec.fill_frac))
    return np.asarray(np.maximum(1.0, np.ceil(filled - 1e-9)))


def requests_per_day(demand: Demand, days: Samples) -> Samples:
    """Traffic on these days of the life."""
    if demand.table:
        rows = np.array(demand.table)
        return np.asarray(np.interp(days, rows[:, 0], rows[:, 1]))
    months = days / DAYS_PER_MONTH
    stops = demand.growth_months
    grown = months if stops is None else np.minimum(months, stops)
    declined = np.maximum(months - (stops or 0.0), 0.0) if demand.decline_frac else 0.0 * months
    return np.asarray(
        demand.requests_per_day * (1 + demand.growth_frac) ** grown * (1 - demand.decline_frac) ** declined
    )


def crossover_days(bills: Bills) -> Samples:
    """The first day on which inference has cost as much as training; inf where it has not within the grid."""
    ahead = np.atleast_2d(bills.inference_usd - bills.training_usd)
    passed = (ahead[:, 1:] >= 0) & (ahead[:, :-1] < 0)
    at = np.argmax(passed, axis=1)
    row = np.arange(len(ahead))
    before, after = ahead[row, at], ahead[row, at + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = bills.days[at] + (bills.days[at + 1] - bills.days[at]) * before / (before - after)
    never = np.where(passed.any(axis=1), found, np.inf)
    return np.asarray(np.where(ahead[:, 0] >= 0, 0.0, never))


def inference_share(bills: Bills) -> Samples:
    """Inference's part of both bills over the life; 0 where nothing costs anything."""
    training, inference = bills.at_end(bills.training_usd), bills.at_end(bills.inference_usd)
    both = training + inference
    return np.asarray(np.where(both > 0, inference / np.where(both > 0, both, 1.0), 0.0))


class LifePoint(NamedTuple):
    """A constant demand, today's prices for ever: what a day costs, when it overtakes training, its share in a year."""

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
    """A point for each demand (requests a day), in closed form, machines filled to the brim.

    ``usd_per_request`` is of the chip-seconds used, ``machine_usd_per_day`` of one serving machine, always on.
    Raises SpecError for negative costs.
    """
    if min(training_usd, usd_per_request, machine_usd_per_day) < 0:
        costs = f"training_usd={training_usd}, usd_per_request={usd_per_request}, machine={machine_usd_per_day}"
        raise SpecError(f"{costs}: must not be below 0")
    points = []
    for demand in demands:
        usd_per_day = usd_per_request * demand
        n_machines = max(1, math.ceil(usd_per_day / machine_usd_per_day)) if machine_usd_per_day else None
        points.append(_point(training_usd, usd_per_day, machine_usd_per_day, demand, n_machines))
    return points


def constant_lives(case: LifeCase, demands: tuple[float, ...] = REQUESTS_PER_DAY) -> list[LifePoint]:
    """The same for a case of numbers, its machines filled as it says."""
    serving = case.serving
    costs = (float(serving.usd_per_request), float(serving.usd_per_machine_day))
    machines = [int(machines_for(demand, serving.requests_per_machine_day, case.spec)) for demand in demands]
    return [
        _point(float(case.training_usd), costs[0] * demand, costs[1], demand, n)
        for demand, n in zip(demands, machines, strict=True)
    ]


def _point(
    training_usd: float, usd_per_day: float, machine_usd_per_day: float, demand: float, n_machines: int | None
) -> LifePoint:
    year_usd = usd_per_day * DAYS_PER_YEAR
    both_usd = training_usd + year_usd
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


def _check(case: LifeCase) -> None:
    named = {"training_usd": case.training_usd, **case.serving._asdict()}
    for name, figure in named.items():
        if not np.all(np.asarray(figure) >= 0) or not np.all(np.isfinite(figure)):
            raise SpecError(f"{name}={np.min(figure):g}: must be a number of 0 or more")
    if not np.all(np.asarray(case.serving.requests_per_machine_day) > 0):
        raise SpecError("requests_per_machine_day=0: a machine that answers nothing serves no traffic")


def _grid(spec: LifeSpec) -> Samples:
    """Days from 0 to the horizon, close together at first; versions, rows of a table and the end are on it."""
    end, horizon = spec.years * DAYS_PER_YEAR, max(spec.years, HORIZON_YEARS) * DAYS_PER_YEAR
    within = end * np.linspace(0.0, 1.0, _STEPS + 1) ** 2
    later = end + (horizon - end) * np.linspace(0.0, 1.0, _LATER_STEPS + 1) ** 2
    kinks = [point.day for point in spec.demand.table if point.day < end]
    if spec.demand.growth_months is not None:
        kinks.append(min(spec.demand.growth_months * DAYS_PER_MONTH, end))
    days = np.unique(np.concatenate([within, later, kinks]))
    return np.sort(np.concatenate([days[~np.isin(days, jumps := _version_days(spec, horizon))], jumps, jumps]))


def _version_days(spec: LifeSpec, horizon: float) -> Samples:
    """Days on which later versions have been trained, the life's end excluded: none begins when it ends."""
    if spec.version_months is None:
        return np.zeros(0)
    days = (
        np.arange(1, int(horizon / (spec.version_months * DAYS_PER_MONTH)) + 1) * spec.version_months * DAYS_PER_MONTH
    )
    return np.asarray(days[np.abs(days - spec.years * DAYS_PER_YEAR) > 1e-6])


def _versions(spec: LifeSpec, days: Samples) -> Samples:
    """Trainings paid so far, each at its day's price and worth."""
    paid = np.where(np.diff(days, prepend=-1.0) == 0, np.exp(-_decay(spec) * days), 0.0)
    return np.asarray(1.0 + np.cumsum(paid))


def _worth(spec: LifeSpec, start: Samples, span: Samples) -> Samples:
    """Integral of price and discount over each span, days."""
    decay = _decay(spec)
    if decay == 0:
        return span
    return np.asarray(np.exp(-decay * start) * -np.expm1(-decay * span) / decay)


def _decay(spec: LifeSpec) -> float:
    """How fast a day's dollars shrink with time, by cheaper chips and by discount, 1/day."""
    return (math.log1p(spec.discount_frac) - math.log1p(-spec.price_decline_frac)) / DAYS_PER_YEAR


def _summed(each: Samples) -> Samples:
    """Running sum, 0 first."""
    return np.concatenate([np.zeros((*each.shape[:-1], 1)), np.cumsum(each, axis=-1)], axis=-1)
