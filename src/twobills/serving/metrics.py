"""How long requests took, as their users felt it: time to first token, per token after it, and in all.

TTFT counts from arrival, so it includes the queue. TPOT is the mean gap between a request's tokens after
the first; a request of one token has none. Percentiles interpolate linearly between order statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from twobills.serving.request import FinishReason, Request


class Timing(NamedTuple):
    """One finished request's times, s."""

    queue_s: float
    ttft_s: float
    tpot_s: float | None
    """None if only one token was generated."""
    e2e_s: float


class Percentiles(NamedTuple):
    """A distribution in five numbers, s."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float


class Latencies(NamedTuple):
    """Distributions over requests; None where no request has such a time."""

    queue_s: Percentiles | None
    ttft_s: Percentiles | None
    tpot_s: Percentiles | None
    e2e_s: Percentiles | None


def timing(request: Request) -> Timing | None:
    """When things happened to a request, s; None if it was aborted or has not finished."""
    if request.finish_reason in (None, FinishReason.ABORT):
        return None
    scheduled_s, first_s, finished_s = request.scheduled_s, request.first_token_s, request.finished_s
    if scheduled_s is None or first_s is None or finished_s is None:
        return None
    n_gaps = len(request.output_token_ids) - 1
    return Timing(
        queue_s=scheduled_s - request.arrival_s,
        ttft_s=first_s - request.arrival_s,
        tpot_s=(finished_s - first_s) / n_gaps if n_gaps else None,
        e2e_s=finished_s - request.arrival_s,
    )


def latencies(requests: Iterable[Request]) -> Latencies:
    """Distributions over the finished requests."""
    timings = [t for request in requests if (t := timing(request))]
    return Latencies(
        queue_s=percentiles([t.queue_s for t in timings]),
        ttft_s=percentiles([t.ttft_s for t in timings]),
        tpot_s=percentiles([t.tpot_s for t in timings if t.tpot_s is not None]),
        e2e_s=percentiles([t.e2e_s for t in timings]),
    )


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """Mean and percentiles in the values' unit; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return Percentiles(sum(ordered) / len(ordered), *(_quantile(ordered, q) for q in (0.50, 0.90, 0.95, 0.99)))


def _quantile(ordered: Sequence[float], q: float) -> float:
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
