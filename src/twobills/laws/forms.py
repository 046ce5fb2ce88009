"""Laws of loss as functions: L(N, D) = E + (A/N^alpha + B/D^beta)^gamma, and what kind of thing N and C are in each.

Gamma is 1 for Hoffmann et al. 2022 (equation 2), its replication and its descendants. Kaplan's older form is
``laws.kaplan``; forms with further variables have files of their own: ``repeats``, ``overtraining``, ``precision``,
``distillation``, ``testtime``. Loss is in nats per token of the law's own data and tokenizer; between models of another
corpus only *comparisons* carry over, and outside the range that a law was fitted on it is an extrapolation:
``outside_words`` says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.errors import SpecError
from twobills.units import show_count

PARAMETERS = ("A", "B", "E", "alpha", "beta")
"""Of the law, as papers list them."""
LEAST_E = 1e-9
"""Nats: what a fit gives that finds no irreducible loss, whose logarithm would be endless."""


class ParamsMeaning(StrEnum):
    """Which parameters N counts."""

    TOTAL = "total"
    """All of them, embeddings included."""
    NON_EMBEDDING = "non_embedding"
    """Without look-up tables and output head (Kaplan et al. 2020)."""
    LINEAR = "linear"
    """All matrices that multiply, the output head among them, without look-up tables (Porian et al. 2024)."""


class ComputeMeaning(StrEnum):
    """How C was counted."""

    SIX_ND = "six_nd"
    """6 FLOPs for each parameter (as N counts them) and token."""
    COUNTED = "counted"
    """Operation by operation, attention included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """One fit, constants unrounded."""

    name: str
    E: float
    A: float
    B: float
    alpha: float
    beta: float
    gamma: float = 1.0
    min_params: float = 0.0
    max_params: float = math.inf
    min_tokens: float = 0.0
    max_tokens: float = math.inf
    source: str = ""
    covariance: tuple[tuple[float, ...], ...] | None = None
    """Of (ln A, ln B, ln E, alpha, beta); None where nobody gave one."""

    def __post_init__(self) -> None:
        for name in ("E", "A", "B", "alpha", "beta", "gamma"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise SpecError(f"law {self.name}: {name}={value:g}: must be a number above 0")
        if self.covariance is not None and np.shape(self.covariance) != (5, 5):
            raise SpecError(f"law {self.name}: covariance: must be 5 x 5, of ln A, ln B, ln E, alpha, beta")

    def in_range(self, n_params: float) -> bool:
        """Whether the law was fitted on models of this size."""
        return self.min_params <= n_params <= self.max_params

    @property
    def a(self) -> float:
        """The exponent of N in the compute-optimal N = G (C/6)^a."""
        return self.beta / (self.alpha + self.beta)


class Interval(NamedTuple):
    """A figure and what 90 % of the draws from its law's covariance lie between."""

    value: float
    p5: float | None
    p95: float | None


def loss(law: Law, n_params: float, n_tokens: float) -> float:
    """Nats per token of a model with ``n_params`` trained on ``n_tokens`` different tokens."""
    if not (n_params > 0 and n_tokens > 0):
        raise SpecError(f"n_params={n_params}, n_tokens={n_tokens}: must be above 0")
    return float(law.E + (law.A / n_params**law.alpha + law.B / n_tokens**law.beta) ** law.gamma)


def log_parameters(law: Law) -> NDArray[np.float64]:
    """(ln A, ln B, ln E, alpha, beta), the coordinates of fits and covariances."""
    return np.array([math.log(law.A), math.log(law.B), math.log(law.E), law.alpha, law.beta])


def law_of(log_params: Any, like: Law) -> Law:
    """The law with these (ln A, ln B, ln E, alpha, beta) and all else as in ``like``."""
    a, b, e, alpha, beta = (float(x) for x in log_params)
    return replace(like, A=math.exp(a), B=math.exp(b), E=max(LEAST_E, math.exp(e)), alpha=alpha, beta=beta)


def draws(law: Law, n_draws: int = 2000, seed: int = 0) -> list[Law]:
    """Laws as likely as the covariance says, none without one; draws with an exponent at or below 0 are left out."""
    if law.covariance is None:
        return []
    normal = np.random.default_rng(seed).multivariate_normal(log_parameters(law), np.array(law.covariance), n_draws)
    return [law_of(row, law) for row in normal if row[3] > 0 and row[4] > 0]


def outside_words(law: Law, n_params: float, n_tokens: float | None = None) -> str | None:
    """How far beyond what the law was fitted on a model lies, in words; None if it lies within."""
    found = [_beyond("parameters", n_params, law.min_params, law.max_params)]
    if n_tokens is not None:
        found.append(_beyond("tokens", n_tokens, law.min_tokens, law.max_tokens))
    words = [each for each in found if each]
    return f"outside what {law.name} was fitted on: {' and '.join(words)}" if words else None


def _beyond(what: str, value: float, least: float, most: float) -> str | None:
    if least <= value <= most:
        return None
    edge, side = (least, "below the least") if value < least else (most, "above the most")
    return f"{show_count(value)} {what} are {side}, {show_count(edge)}"
