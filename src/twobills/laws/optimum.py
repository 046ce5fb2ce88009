"""The best N and D for a budget of training FLOPs, the least FLOPs for a loss, and what other sizes would take.

Training only, C = 6ND; what the model costs to serve is ``laws.lifetime``. All in closed form from the law, with 90 %
intervals drawn from its covariance where it has one.
Ref: Hoffmann et al. 2022, arXiv:2203.15556, equation 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from twobills.errors import SpecError
from twobills.laws.forms import Interval, Law, loss

FLOPS_PER_PARAM_TOKEN = 6.0


class Optimum(NamedTuple):
    """The compute-optimal model of a budget."""

    compute_flops: float
    n_params: float
    n_tokens: float
    loss: float

    @property
    def tokens_per_param(self) -> float:
        """D/N."""
        return self.n_tokens / self.n_params


def optimum(law: Law, compute_flops: float) -> Optimum:
    """The size and data of the lowest loss for a budget."""
    if not (compute_flops > 0 and np.isfinite(compute_flops)):
        raise SpecError(f"compute_flops={compute_flops:g}: must be a number above 0")
    product = compute_flops / FLOPS_PER_PARAM_TOKEN
    n_params = _scale(law) * product**law.a
    n_tokens = product / n_params
    return Optimum(compute_flops, n_params, n_tokens, loss(law, n_params, n_tokens))


def optimum_for_size(law: Law, n_params: float) -> Optimum:
    """The budget for which a size is the best, and its tokens: the "Chinchilla point" of so many parameters."""
    if not (n_params > 0 and np.isfinite(n_params)):
        raise SpecError(f"n_params={n_params:g}: must be a number above 0")
    product = (n_params / _scale(law)) ** (1 / law.a)
    n_tokens = product / n_params
    return Optimum(FLOPS_PER_PARAM_TOKEN * product, n_params, n_tokens, loss(law, n_params, n_tokens))


def optimum_for_loss(law: Law, target_loss: float) -> Optimum:
    """The cheapest training that reaches a loss. Raises SpecError at or below the law's irreducible loss E."""
    reducible = _reducible(law, target_loss)
    n_params = (law.A * (1 + law.alpha / law.beta) / reducible) ** (1 / law.alpha)
    n_tokens = (law.B * (1 + law.beta / law.alpha) / reducible) ** (1 / law.beta)
    return Optimum(FLOPS_PER_PARAM_TOKEN * n_params * n_tokens, n_params, n_tokens, target_loss)


def tokens_for_loss(law: Law, n_params: float, target_loss: float) -> float:
    """Tokens that bring a model of this size to that loss. Raises SpecError where no amount of data does."""
    if not n_params > 0:
        raise SpecError(f"n_params={n_params:g}: must be above 0")
    left = _reducible(law, target_loss) - law.A / n_params**law.alpha
    if left <= 0:
        least = smallest_params(law, target_loss)
        raise SpecError(
            f"n_params={n_params:.3g}: no amount of data reaches loss {target_loss:g} by {law.name}; "
            f"it takes more than {least:.3g} parameters"
        )
    return float((law.B / left) ** (1 / law.beta))


def run_for_loss(law: Law, n_params: float, target_loss: float) -> Optimum:
    """The training that brings a model of this size to that loss: the best one *for its size*."""
    n_tokens = tokens_for_loss(law, n_params, target_loss)
    return Optimum(FLOPS_PER_PARAM_TOKEN * n_params * n_tokens, n_params, n_tokens, target_loss)


def smallest_params(law: Law, target_loss: float) -> float:
    """The size that reaches a loss only with endless data: any model must be larger."""
    return float((law.A / _reducible(law, target_loss)) ** (1 / law.alpha))


def optimum_intervals(law: Law, drawn: Sequence[Law], find: Callable[[Law], Optimum]) -> dict[str, Interval]:
    """``find``'s figures under the law, and between which values 90 % of the drawn laws put them.

    A drawn law that cannot reach the loss asked for counts as endless compute. No draws, no interval.
    """
    best = find(law)
    found = [_or_endless(find, each) for each in drawn]
    figures = {}
    for name in ("compute_flops", "n_params", "n_tokens", "loss", "tokens_per_param"):
        values = [x for x in (getattr(each, name) for each in found) if not np.isnan(x)]
        band = np.quantile(values, (0.05, 0.95), method="nearest") if values else (None, None)
        figures[name] = Interval(getattr(best, name), *(None if x is None else float(x) for x in band))
    return figures


def _or_endless(find: Callable[[Law], Optimum], law: Law) -> Optimum:
    try:
        return find(law)
    except SpecError:
        return Optimum(np.inf, np.inf, np.inf, law.E)


def _scale(law: Law) -> float:
    """G of N = G (C/6)^a."""
    return float((law.alpha * law.A / (law.beta * law.B)) ** (1 / (law.alpha + law.beta)))


def _reducible(law: Law, target_loss: float) -> float:
    """What A/N^alpha + B/D^beta may come to."""
    if not target_loss > law.E:
        raise SpecError(
            f"loss={target_loss:g}: no model and no amount of data reaches it by {law.name}, "
            f"whose irreducible loss is {law.E:.4g}; ask for more than that"
        )
    return float((target_loss - law.E) ** (1 / law.gamma))
