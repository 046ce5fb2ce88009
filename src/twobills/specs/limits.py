"""Hard budgets of a run: what it may spend at most, in all its processes and resumes together."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from twobills.errors import RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Each is a number above 0, or None for no limit."""

    max_usd: float | None = None
    """Dollars, at the run's rates."""
    max_seconds: float | None = None
    """Seconds of the machine, from each process's start to its end, lost work included."""
    max_flops: float | None = None
    """Executed FLOPs."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is not None and not 0 < value < math.inf:
                raise RequestError(f"{limit.name}={value}: must be a number above 0; leave it out for no limit")

    def __bool__(self) -> bool:
        """Whether anything is limited."""
        return any(getattr(self, limit.name) is not None for limit in fields(self))
