"""A figure with its 5-95 % interval, from the forecast's error and from what else is only known within a range.

Forecast times are taken to miss log-normally: actual / forecast has a standard deviation of ``log_sigma`` in its
logarithm. Where a figure is a product of uncertain factors, their distances from the value in logarithms add in
quadrature on each side, as those of independent errors do; a range that sources span counts as a factor's 5-95 %.
"""

from __future__ import annotations

import math
from typing import NamedTuple

_Z95 = 1.6448536269514722


class Interval(NamedTuple):
    """A value between its 5th and 95th percentile."""

    value: float
    p5: float
    p95: float

    def to_json(self) -> dict[str, float]:
        """``{"value": ..., "p5": ..., "p95": ...}``."""
        return self._asdict()

    @property
    def spread(self) -> Spread:
        """How far it reaches; none for a value of 0."""
        return Spread(self.p5 / self.value, self.p95 / self.value) if self.value else Spread(1.0, 1.0)


class Spread(NamedTuple):
    """5th and 95th percentile of a factor over its value: at most 1, at least 1."""

    low: float
    high: float

    def weighted(self, share: float) -> Spread:
        """Of a sum in which the factor has this share, to first order."""
        return Spread(self.low**share, self.high**share)


def forecast_spread(log_sigma: float) -> Spread:
    """Of a forecast that misses by a factor exp(+-1.645 log_sigma) in nine cases of ten."""
    factor = math.exp(_Z95 * log_sigma)
    return Spread(1 / factor, factor)


def around(value: float, log_sigma: float) -> Interval:
    """The interval of a forecast that misses by a factor exp(+-1.645 log_sigma) in nine cases of ten."""
    return combined(value, forecast_spread(log_sigma))


def combined(value: float, *spreads: Spread) -> Interval:
    """The interval of a product of independent factors with these spreads."""
    below = math.hypot(*(math.log(s.low) if s.low > 0 else math.inf for s in spreads))
    above = math.hypot(*(math.log(s.high) for s in spreads))
    return Interval(value, value * math.exp(-below), value * math.exp(above))
