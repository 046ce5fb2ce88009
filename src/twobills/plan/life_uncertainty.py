"""How sure a life's figures are: Monte Carlo over the intervals of both forecasts and, if given, of the traffic.

Each interval is taken as a factor whose logarithm is normal on either side of the value, so that its 5th and 95th
percentile are the interval's; each is drawn evenly over its quantiles, in an order of its own (a Latin hypercube). The
two forecasts miss independently of each other. A chip-second of serving that takes longer means more machines for the
same traffic. Samples are seeded: the same plan gives the same figures.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from twobills.plan.interval import Interval, Spread
from twobills.plan.life import Bills, LifeCase, Samples, Serving, crossover_days, inference_share, live

N_SAMPLES = 1000
_NORMAL = NormalDist()
CERTAIN = Spread(1.0, 1.0)


class Doubt(NamedTuple):
    """5-95 % of each factor over its value."""

    training: Spread
    serving: Spread
    """Of the chip-seconds of an answer."""
    traffic: Spread = CERTAIN


class LifeFigures(NamedTuple):
    """A life's figures, each with its interval; a crossing that does not come is inf."""

    crossover_days: Interval
    inference_share: Interval
    training_usd: Interval
    """Of the whole life, later versions included."""
    inference_usd: Interval
    used_usd: Interval
    total_usd: Interval
    usd_per_answer: Interval
    """Both bills over all answers."""
    n_requests: Interval
    first_n_machines: Interval
    most_machines: Interval


class Band(NamedTuple):
    """A cumulative bill between its percentiles, on ``days``."""

    value: Samples
    p5: Samples
    p95: Samples


class SurveyedLife(NamedTuple):
    """A life with how sure it is."""

    bills: Bills
    figures: LifeFigures
    training: Band
    inference: Band


def survey(case: LifeCase, doubt: Doubt, *, n_samples: int = N_SAMPLES, seed: int = 0) -> SurveyedLife:
    """The life that is expected, and percentiles of as many others."""
    rng = np.random.default_rng(seed)
    training, serving, traffic = (_draw(spread, n_samples, rng) for spread in doubt)
    other = LifeCase(
        case.training_usd * training,
        Serving(
            case.serving.usd_per_request * serving,
            case.serving.usd_per_machine_day,
            case.serving.requests_per_machine_day / serving,
        ),
        case.spec,
    )
    expected, sampled = live(case), live(other, demand_factor=traffic)
    ours, theirs = _columns(expected), _columns(sampled)
    figures = LifeFigures(*(_interval(value, column) for value, column in zip(ours, theirs, strict=True)))
    bands = (_band(getattr(expected, name), getattr(sampled, name)) for name in ("training_usd", "inference_usd"))
    return SurveyedLife(expected, figures, *bands)


def _columns(bills: Bills) -> tuple[Samples, ...]:
    """The figures of ``LifeFigures`` in its order, a column of samples each."""
    training, inference = bills.at_end(bills.training_usd), bills.at_end(bills.inference_usd)
    requests, machines = bills.at_end(bills.requests), bills.n_machines[..., : bills.end]
    return (
        crossover_days(bills),
        inference_share(bills),
        training,
        inference,
        bills.at_end(bills.used_usd),
        training + inference,
        (training + inference) / requests,
        requests,
        machines[..., 0],
        machines.max(axis=-1),
    )


def _draw(spread: Spread, n: int, rng: np.random.Generator) -> Samples:
    """A column of factors."""
    quantiles = (rng.permutation(n) + 0.5) / n
    z = np.array([_NORMAL.inv_cdf(q) for q in quantiles])[:, None] / _NORMAL.inv_cdf(0.95)
    return np.asarray(np.where(z < 0, spread.low**-z, spread.high**z))


def _interval(value: Samples, samples: Samples) -> Interval:
    """Percentiles of the samples that stand on either side of the value; never between two of them, one may be inf."""
    p5, p95 = np.quantile(samples, (0.05, 0.95), method="nearest")
    middle = float(np.ravel(value)[0])
    return Interval(middle, min(float(p5), middle), max(float(p95), middle))


def _band(value: Samples, samples: Samples) -> Band:
    p5, p95 = np.quantile(np.atleast_2d(samples), (0.05, 0.95), axis=0)
    return Band(value, np.minimum(p5, value), np.maximum(p95, value))
