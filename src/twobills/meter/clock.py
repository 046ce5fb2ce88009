"""The clock that everything is timed by, as a parameter, so that a test can turn it by hand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

Clock = Callable[[], float]
"""Seconds on a clock that never runs backwards; only differences mean something."""

monotonic: Clock = time.perf_counter


_LOADED_S = time.perf_counter()
_START_FIELD = 19
"""Of /proc/self/stat behind the name in brackets: clock ticks from boot to the process's start."""


def process_age_s() -> float:
    """Seconds since this process was started, by the kernel; where it does not say, since this module was loaded."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started_s = int(fields[_START_FIELD]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_s)
    except (OSError, ValueError, IndexError, AttributeError):
        return time.perf_counter() - _LOADED_S


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Lets so many seconds pass."""
        self.now_s += seconds
