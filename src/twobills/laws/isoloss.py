"""Curves of equal loss for many sizes or many laws at once: the data that each size needs, the best size for a life.

On the curve of one loss a share x of what can still be learned is missing for want of parameters, 1 - x for want of
data: A/N^alpha = x r, B/D^beta = (1 - x) r, with r the reducible loss. So x alone is sought, between the share of the
compute-optimal model, beta / (alpha + beta), and 1, where only endless data would do. Least 6 N D + 2 N D_inf is at
D (alpha x / (beta (1 - x)) - 1) = D_inf / 3. Ref: Hoffmann et al. 2022, equation 4; Sardana et al. 2023, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.laws.forms import Law

Columns = NDArray[np.float64]
TRAIN_FLOPS, FORWARD_FLOPS = 6.0, 2.0
"""Per parameter and token."""
_HALVINGS = 100
_LEAST_LOG_SHARE = -60.0
"""Of what is missing for want of data: e^-60 of it takes more tokens than there are atoms."""


class Laws(NamedTuple):
    """The constants of many laws as columns; a ``Law`` does where one is meant."""

    E: Any
    A: Any
    B: Any
    alpha: Any
    beta: Any
    gamma: Any


class Sizes(NamedTuple):
    """Sizes on a curve of equal loss."""

    n_params: Columns
    n_tokens: Columns


def laws_of(laws: Sequence[Law]) -> Laws:
    """Many laws as columns of shape (laws, 1), so that they go with rows of sizes."""
    return Laws(*(np.array([[getattr(law, name)] for law in laws]) for name in Laws._fields))


def losses(law: Laws | Law, n_params: Any, n_tokens: Any) -> Columns:
    """Nats per token, of all at once."""
    return np.asarray(law.E + (law.A / n_params**law.alpha + law.B / n_tokens**law.beta) ** law.gamma)


def tokens_needed(law: Laws | Law, n_params: Any, target_loss: Any) -> Columns:
    """Tokens that bring each size to the loss; infinite where no amount does."""
    left = _reducible(law, target_loss) - law.A / n_params**law.alpha
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray((law.B / np.maximum(left, 0.0)) ** (1 / law.beta))


def tokens_at_optimum(law: Laws | Law, n_params: Any) -> Columns:
    """Tokens of the training for which each size is compute-optimal: alpha A/N^alpha = beta B/D^beta."""
    return np.asarray((law.beta * law.B * n_params**law.alpha / (law.alpha * law.A)) ** (1 / law.beta))


def best_sizes(law: Laws | Law, target_loss: Any, inference_tokens: Any) -> Sizes:
    """The size of the fewest FLOPs over a life, weighted as the caller likes; nan for a loss too low."""
    reducible = np.asarray(_reducible(law, target_loss))
    demand = inference_tokens * FORWARD_FLOPS / TRAIN_FLOPS
    low = np.full(np.broadcast(reducible, demand).shape, _LEAST_LOG_SHARE)
    high = low * 0 + np.log(law.alpha / (law.alpha + law.beta))
    for _ in range(_HALVINGS):  # of ln(1 - x): less data missing means more tokens, and a smaller size
        middle = (low + high) / 2
        n_tokens = (law.B / (reducible * np.exp(middle))) ** (1 / law.beta)
        short = n_tokens * _excess(law, middle) < demand
        low, high = np.where(short, low, middle), np.where(short, middle, high)
    n_params = (law.A / (reducible * -np.expm1(high))) ** (1 / law.alpha)
    return Sizes(np.asarray(n_params), np.asarray((law.B / (reducible * np.exp(high))) ** (1 / law.beta)))


def demand_of(law: Laws | Law, n_params: Any, n_tokens: Any) -> Columns:
    """Tokens read and answered for which a model is the best of its loss; below 0 where even none are too many."""
    missing, short = law.A / n_params**law.alpha, law.B / n_tokens**law.beta
    return np.asarray(TRAIN_FLOPS / FORWARD_FLOPS * n_tokens * (law.alpha * missing / (law.beta * short) - 1))


def _excess(law: Laws | Law, log_share: Columns) -> Columns:
    """alpha x / (beta (1 - x)) - 1."""
    return np.asarray(law.alpha * -np.expm1(log_share) / (law.beta * np.exp(log_share)) - 1)


def _reducible(law: Laws | Law, target_loss: Any) -> Any:
    """What A/N^alpha + B/D^beta may come to; nan at or below E."""
    left = np.asarray(target_loss - law.E)
    return np.where(left > 0, np.maximum(left, 0.0) ** (1 / law.gamma), np.nan)
