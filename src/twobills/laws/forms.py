"""Published laws of loss as functions: L(N, D) = E + A/N^alpha + B/D^beta (Hoffmann et al. 2022, equation 2).

Loss is in nats per token of the law's own data and tokenizer; between models of another corpus only *comparisons*
carry over, and below the range that a law was fitted on it is an extrapolation. ``Law.in_range`` says which.
"""

from __future__ import annotations

from dataclasses import dataclass

from twobills.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """One published fit, constants unrounded."""

    name: str
    E: float
    A: float
    B: float
    alpha: float
    beta: float
    min_params: float
    max_params: float
    source: str

    def in_range(self, n_params: float) -> bool:
        """Whether the law was fitted on models of this size."""
        return self.min_params <= n_params <= self.max_params


def loss(law: Law, n_params: float, n_tokens: float) -> float:
    """Nats per token of a model with ``n_params`` trained on ``n_tokens`` different tokens."""
    if n_params <= 0 or n_tokens <= 0:
        raise SpecError(f"n_params={n_params}, n_tokens={n_tokens}: must be above 0")
    return float(law.E + law.A / n_params**law.alpha + law.B / n_tokens**law.beta)
