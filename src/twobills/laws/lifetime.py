"""The best size for training and a life of inference together, in FLOPs: Sardana et al. 2023, arXiv:2401.00448.

Minimise 6 N D + 2 N D_inf over the (N, D) of one loss. Without demand that is the compute-optimal model; the more it
will answer, the smaller it should be and the longer it should train. Found where the derivative along the curve of
equal loss is zero (``laws.isoloss``); there is no closed form. Dollars, chips and memory are ``plan``'s.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from twobills.errors import SpecError
from twobills.laws.forms import Law
from twobills.laws.isoloss import FORWARD_FLOPS, best_sizes
from twobills.laws.optimum import FLOPS_PER_PARAM_TOKEN, optimum_for_loss, tokens_for_loss


class Lifetime(NamedTuple):
    """One size for one loss and one demand."""

    n_params: float
    n_tokens: float
    train_flops: float
    inference_flops: float

    @property
    def total_flops(self) -> float:
        """Both bills, in FLOPs."""
        return self.train_flops + self.inference_flops


def lifetime(law: Law, n_params: float, target_loss: float, inference_tokens: float) -> Lifetime:
    """A model of this size brought to that loss, and what it takes to answer so many tokens.

    Raises SpecError where no amount of data brings it there.
    """
    n_tokens = tokens_for_loss(law, n_params, target_loss)
    training = FLOPS_PER_PARAM_TOKEN * n_params * n_tokens
    return Lifetime(n_params, n_tokens, training, FORWARD_FLOPS * n_params * inference_tokens)


def lifetime_optimum(law: Law, target_loss: float, inference_tokens: float, inference_weight: float = 1.0) -> Lifetime:
    """The size of the fewest FLOPs over a life; ``inference_weight`` is the price of its FLOP over training's.

    Raises SpecError for a loss that nothing reaches or a demand below 0.
    """
    if not (inference_tokens >= 0 and math.isfinite(inference_tokens)):
        raise SpecError(f"inference_tokens={inference_tokens:g}: must be a number from 0 up")
    if not (inference_weight > 0 and math.isfinite(inference_weight)):
        raise SpecError(f"inference_weight={inference_weight:g}: must be a number above 0")
    optimum_for_loss(law, target_loss)  # says which losses nothing reaches
    best = best_sizes(law, target_loss, inference_weight * inference_tokens)
    return lifetime(law, float(best.n_params), target_loss, inference_tokens)
