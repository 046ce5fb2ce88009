"""When requests arrive: at given times, as a Poisson process, or each when an earlier one is answered.

Open loop (a trace, Poisson) keeps arriving however slow the server is, and so shows queues; closed loop
holds so many requests in flight, and so shows throughput. Random times come from a seed only.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Protocol

from twobills.errors import SpecError
from twobills.serving.request import Request


def poisson_times(rate_per_s: float, n_requests: int, *, seed: int) -> list[float]:
    """Arrival times, s, of a Poisson process that starts at 0."""
    if rate_per_s <= 0:
        raise SpecError(f"rate_per_s={rate_per_s}: must be above 0")
    rng = random.Random(seed)
    return list(accumulate(rng.expovariate(rate_per_s) for _ in range(n_requests)))


class Arrivals(Protocol):
    """Hands out requests as their time comes."""

    def due(self, now_s: float, n_in_flight: int) -> list[Request]:
        """Requests that have arrived by ``now_s`` and were not handed out yet."""
        ...

    @property
    def next_s(self) -> float | None:
        """When the next one arrives, s, if that is known already; None if none is left or it depends."""
        ...


class OpenLoop:
    """Each request at its own ``arrival_s``, which must not decrease."""

    def __init__(self, requests: Sequence[Request]) -> None:
        for earlier, later in pairwise(requests):
            if later.arrival_s < earlier.arrival_s:
                raise SpecError(f"request {later.id}: arrival_s={later.arrival_s} is before {earlier.id}'s; sort them")
        self._left = deque(requests)

    def due(self, now_s: float, n_in_flight: int) -> list[Request]:  # noqa: ARG002 - an open loop does not look
        """Requests whose time has come."""
        due = []
        while self._left and self._left[0].arrival_s <= now_s:
            due.append(self._left.popleft())
        return due

    @property
    def next_s(self) -> float | None:
        """Arrival of the next request, s."""
        return self._left[0].arrival_s if self._left else None


class ClosedLoop:
    """``concurrency`` requests in flight as long as there are any; sets their ``arrival_s``."""

    def __init__(self, requests: Iterable[Request], concurrency: int) -> None:
        if concurrency < 1:
            raise SpecError(f"concurrency={concurrency}: must be at least 1")
        self._left = deque(requests)
        self._concurrency = concurrency

    def due(self, now_s: float, n_in_flight: int) -> list[Request]:
        """As many as are missing from the number in flight."""
        n_due = min(self._concurrency - n_in_flight, len(self._left))
        due = [self._left.popleft() for _ in range(n_due)]
        for request in due:
            request.arrival_s = now_s
        return due

    @property
    def next_s(self) -> None:
        """Never known beforehand."""
        return None
