"""A figure with its 5-95 % interval, from the machine's forecast error.

Forecast times are taken to miss log-normally: actual / forecast has a standard deviation of ``log_sigma`` in its
logarithm. Until runs on this machine calibrate it, that is an assumption.
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


def around(value: float, log_sigma: float) -> Interval:
    """The interval of a forecast that misses by a factor exp(+-1.645 log_sigma) in nine cases of ten."""
    factor = math.exp(_Z95 * log_sigma)
    return Interval(value, value / factor, value * factor)
