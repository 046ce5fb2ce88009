"""How long a request waits for its first token, as a distribution: prompts that queue one behind the other.

Requests come at random (Poisson), each prompt takes the same time to read, one at a time: the M/D/1 queue. Its wait has
a closed form (Erlang 1909): alternating sums that lose digits far out, where the exponential tail (Cramer-Lundberg) is
exact to many digits already. Before that a request waits for the rest of the step that runs when it comes, up to one
step. Good at moderate load; beyond it a request that finds no room in memory waits longer than this says, and at
saturation there is no wait to speak of. Left out: prompts of different lengths (``mg1_wait_s`` has their mean).
"""

from __future__ import annotations

import math

from twobills.errors import SpecError

_EXACT_SERVICES = 6.0
"""Waits up to so many services come from Erlang's sum, longer ones from the tail."""
_SLICES = 16
_ROUNDS = 60


def mg1_wait_s(rho: float, service_s: float, variation: float = 0.0) -> float:
    """Mean wait, s (Pollaczek-Khinchine). ``variation``: variance of the service over its mean squared; 0 is M/D/1."""
    _check(rho)
    return rho * service_s * (1 + variation) / (2 * (1 - rho))


def wait_cdf(wait_s: float, rho: float, service_s: float) -> float:
    """Probability that a wait is at most so long in M/D/1. Raises SpecError at saturation."""
    _check(rho)
    if wait_s < 0:
        return 0.0
    if rho == 0 or service_s == 0:
        return 1.0
    x = wait_s / service_s
    return _erlang(x, rho) if x <= _EXACT_SERVICES else 1 - _tail(x, rho)


def wait_quantile_s(quantile: float, rho: float, service_s: float, step_s: float = 0.0) -> float:
    """The wait that this share of requests does not exceed, s.

    First for the rest of a running step (uniform up to ``step_s``), then for the prompts before it.
    """
    _check(rho)
    if not 0 < quantile < 1:
        raise SpecError(f"quantile={quantile:g}: must be between 0 and 1")
    if rho == 0 or service_s == 0:
        return quantile * step_s
    decay = _decay(rho)
    low, high = 0.0, step_s + service_s * (2 + math.log(1 / (1 - quantile)) / decay)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if _both_cdf(middle, rho, service_s, step_s) < quantile else (low, middle)
    return high


def _both_cdf(wait_s: float, rho: float, service_s: float, step_s: float) -> float:
    """The step's rest is cut into slices of equal probability, each at its middle."""
    if step_s == 0:
        return wait_cdf(wait_s, rho, service_s)
    rests = ((i + 0.5) / _SLICES * step_s for i in range(_SLICES))
    return math.fsum(wait_cdf(wait_s - rest, rho, service_s) for rest in rests) / _SLICES


def _erlang(x: float, rho: float) -> float:
    """P(wait <= x services)."""
    terms = ((rho * (k - x)) ** k / math.factorial(k) * math.exp(-rho * (k - x)) for k in range(math.floor(x) + 1))
    return (1 - rho) * math.fsum(terms)


def _tail(x: float, rho: float) -> float:
    """P(wait > x services) far out: (1 - rho) / (rho e^decay - 1) x e^(-decay x)."""
    decay = _decay(rho)
    return min(1.0, (1 - rho) / (rho * math.exp(decay) - 1) * math.exp(-decay * x))


def _decay(rho: float) -> float:
    """The positive root of rho (e^d - 1) = d: how fast the tail falls, per service."""
    low, high = 1e-12, 1.0
    while rho * math.expm1(high) < high:
        low, high = high, 2 * high
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if rho * math.expm1(middle) < middle else (low, middle)
    return high


def _check(rho: float) -> None:
    if not 0 <= rho < 1:
        raise SpecError(f"utilization={rho:g}: must be below 1; a queue that gets more than it serves has no wait")
