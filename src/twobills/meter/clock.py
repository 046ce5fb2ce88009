"""The clock that everything is timed by, as a parameter, so that a test can turn it by hand."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds on a clock that never runs backwards; only differences mean something."""

monotonic: Clock = time.perf_counter


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Lets so many seconds pass."""
        self.now_s += seconds
