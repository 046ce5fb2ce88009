"""What repeated data is worth: the number of different tokens that so many epochs of a corpus stand for.

A first repeat teaches almost as much as new text and each further one less; what it adds decays with R* epochs. The
same holds for parameters beyond those that the different tokens can fill.
Ref: Muennighoff et al. 2023, arXiv:2305.16264, equation 5, R*_D = 15.39 (their C4 fit); constants of the repository
huggingface/datablations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twobills.errors import SpecError
from twobills.laws.forms import Law, loss
from twobills.laws.isoloss import tokens_needed

REPEAT_DECAY_EPOCHS = 15.387756


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConstrainedLaw:
    """A law of new data, and how fast repeats of it and excess parameters lose their worth."""

    law: Law
    repeat_decay_epochs: float
    excess_decay: float
    """R*_N: of parameters beyond the best size for the different tokens, in multiples of that size."""


def effective_tokens(n_tokens: float, n_unique: float) -> float:
    """Different tokens that would teach as much as ``n_tokens`` drawn from ``n_unique`` ones over and over."""
    return _worth(n_tokens, n_unique, REPEAT_DECAY_EPOCHS)


def tokens_when_repeated(
    of: Law, n_params: NDArray[np.float64], target_loss: float, n_unique: float, law: DataConstrainedLaw
) -> NDArray[np.float64]:
    """Tokens, repeats of ``n_unique`` different ones included, that bring each size to the loss; infinite for never.

    How fast repeats and excess parameters lose their worth is the second law's; the loss is the first one's.
    """
    if not n_unique > 0:
        raise SpecError(f"n_unique={n_unique:g}: must be above 0")
    enough = np.minimum(n_params, best_size_for(of, n_unique))
    effective = enough * (1 + law.excess_decay * -np.expm1(-(n_params / enough - 1) / law.excess_decay))
    plain = tokens_needed(of, n_params, target_loss)
    new = np.where(plain <= n_unique, plain, tokens_needed(of, effective, target_loss))
    epochs = np.maximum(new / n_unique - 1, 0.0) / law.repeat_decay_epochs
    with np.errstate(divide="ignore", invalid="ignore"):
        repeats = np.where(epochs < 1, -np.log1p(-np.minimum(epochs, 1.0)), np.inf)
    return np.asarray(np.where(new <= n_unique, new, n_unique * (1 + law.repeat_decay_epochs * repeats)))


def data_constrained_loss(law: DataConstrainedLaw, n_params: float, n_tokens: float, n_unique: float) -> float:
    """Nats per token where only ``n_unique`` of the ``n_tokens`` are different.

    Raises SpecError for anything at or below 0.
    """
    if not (n_params > 0 and n_tokens > 0 and n_unique > 0):
        raise SpecError(f"n_params={n_params}, n_tokens={n_tokens}, n_unique={n_unique}: must be above 0")
    unique = min(n_tokens, n_unique)
    enough = min(n_params, float(best_size_for(law.law, unique)))
    effective_params = _worth(n_params, enough, law.excess_decay)
    return loss(law.law, effective_params, _worth(n_tokens, unique, law.repeat_decay_epochs))


def best_size_for(law: Law, n_tokens: Any) -> Any:
    """The parameters for which so many tokens are compute-optimal: (D G)^(beta/alpha) G."""
    scale = (law.alpha * law.A / (law.beta * law.B)) ** (1 / (law.alpha + law.beta))
    return (n_tokens * scale) ** (law.beta / law.alpha) * scale


def _worth(n: float, n_unique: float, decay: float) -> float:
    if n <= n_unique:
        return n
    return n_unique * (1 + decay * (1 - math.exp(-(n / n_unique - 1) / decay)))
