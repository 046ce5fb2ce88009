"""Training longer than the optimum: what a smaller size needs in data, and Gadre et al.'s law in tokens per parameter.

De Vries' question: keep the loss, take k_N times the optimal parameters; how many times the data (k_D) and the compute
(k_N k_D) does it take? The answer depends on alpha and beta only, not on the budget.
Ref: Harm de Vries 2023, "Go smol or go home"; Gadre et al. 2024, arXiv:2403.08540 (constants recalled, not read again).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from twobills.errors import SpecError
from twobills.laws.forms import Law


@dataclass(frozen=True, slots=True, kw_only=True)
class OverTrainedLaw:
    """L(C, M) = E + (a M^eta + b M^-eta) C^-eta, M = D/N, and the error downstream eps - k exp(-gamma L)."""

    name: str
    E: float
    a: float
    b: float
    eta: float
    error_eps: float
    error_k: float
    error_gamma: float


def overtrained_loss(law: OverTrainedLaw, compute_flops: float, tokens_per_param: float) -> float:
    """Nats per token of a run of C FLOPs with M tokens per parameter."""
    if not (compute_flops > 0 and tokens_per_param > 0):
        raise SpecError(f"compute_flops={compute_flops:g}, tokens_per_param={tokens_per_param:g}: must be above 0")
    spread = law.a * tokens_per_param**law.eta + law.b * tokens_per_param**-law.eta
    return float(law.E + spread * compute_flops**-law.eta)


def best_tokens_per_param(law: OverTrainedLaw) -> float:
    """M of the lowest loss: the same for every budget, because both exponents are one."""
    return float((law.b / law.a) ** (1 / (2 * law.eta)))


def downstream_error(law: OverTrainedLaw, loss: float) -> float:
    """Average top-1 error of Gadre et al.'s tasks at that loss."""
    return law.error_eps - law.error_k * math.exp(-law.error_gamma * loss)


def smallest_size_frac(law: Law) -> float:
    """Below this share of the optimal parameters no amount of data reaches the optimum's loss."""
    return float((1 + law.alpha / law.beta) ** (-1 / law.alpha))


def data_factor(law: Law, size_frac: float) -> float:
    """k_D: times the optimal data that a model of ``size_frac`` times the optimal parameters needs for the same loss.

    Raises SpecError where no amount of data reaches it.
    """
    if not size_frac > 0:
        raise SpecError(f"size_frac={size_frac:g}: must be above 0")
    left = 1 - (size_frac**-law.alpha - 1) * law.beta / law.alpha
    if left <= 0:
        least = smallest_size_frac(law)
        raise SpecError(
            f"size_frac={size_frac:g}: no amount of data reaches the loss of the optimum; {least:.4f} is the least"
        )
    return float(left ** (-1 / law.beta))


def overhead_frac(law: Law, size_frac: float) -> float:
    """Training compute above the optimum's at the same loss: k_N k_D - 1."""
    return size_frac * data_factor(law, size_frac) - 1
