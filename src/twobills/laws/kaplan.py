"""Kaplan et al. 2020, arXiv:2001.08361: the first law of size, whose optimum was too big for its data.

N leaves embeddings out. L(N, D) = [(Nc/N)^(aN/aD) + Dc/D]^aD (equation 1.5); the optimum N = k (Cmin/PF-day)^p is its
own published fit and not the minimum of that L under C = 6ND, because it allows for the critical batch: Cmin is what
a run at a batch far below the critical one would take. Hoffmann's appendix D.4 reads Cmin as C/2.
"""

from __future__ import annotations

from dataclasses import dataclass

from twobills.errors import SpecError

PF_DAY_FLOPS = 8.64e19
CMIN_PER_C = 0.5
"""What Hoffmann et al. 2022, appendix D.4, must have taken: it alone gives their 4.68B at 1e21 FLOPs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KaplanLaw:
    """The joint fit of L(N, D) and the adjusted compute-optimal size."""

    name: str
    n_c: float
    d_c: float
    alpha_n: float
    alpha_d: float
    optimal_params: float
    """k of N = k (Cmin/PF-day)^p."""
    optimal_exponent: float
    """p."""


def kaplan_loss(law: KaplanLaw, n_params: float, n_tokens: float) -> float:
    """Nats per token; ``n_params`` without embeddings."""
    if not (n_params > 0 and n_tokens > 0):
        raise SpecError(f"n_params={n_params}, n_tokens={n_tokens}: must be above 0")
    inner = (law.n_c / n_params) ** (law.alpha_n / law.alpha_d) + law.d_c / n_tokens
    return float(inner**law.alpha_d)


def kaplan_optimal_params(law: KaplanLaw, compute_flops: float) -> float:
    """Parameters without embeddings for a budget of C FLOPs, as Hoffmann's appendix D.4 reads the law."""
    if not compute_flops > 0:
        raise SpecError(f"compute_flops={compute_flops:g}: must be above 0")
    return float(law.optimal_params * (CMIN_PER_C * compute_flops / PF_DAY_FLOPS) ** law.optimal_exponent)
