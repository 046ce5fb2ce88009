"""Was this model too big for its data? Its size and tokens held against the optimum of each law at the same compute.

The loss that matters is the law's own for (N, D). At the same compute another size would have had a lower one; the
same loss would have taken less compute. Against that stands inference: a smaller, longer trained model costs less for
every token that it answers, and from some demand on that repays its training.
Assumes laws of dense models, training 6ND and inference 2N FLOPs per token; of a mixture of experts N is what one token
touches, which flatters neither side for sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twobills.laws.forms import Law, loss, outside_words
from twobills.laws.optimum import FLOPS_PER_PARAM_TOKEN, Optimum, optimum, optimum_for_loss

FORWARD_FLOPS_PER_PARAM = 2.0
NEAR_FACTOR = 1.5
"""Within this factor of the best size, a law has no quarrel with a model: it loses less than 7 % of the compute."""
FAR_FACTOR = 4.0


class LawAudit(NamedTuple):
    """One model under one law."""

    law: str
    loss: float
    best: Optimum
    """At the same compute."""
    same_loss: Optimum
    """The least compute for the same loss."""
    times_best_params: float
    """N over the best N at the same compute."""
    wasted_train_frac: float
    """Share of the training compute that the same loss would not have needed."""
    inference_factor: float
    """FLOPs per answered token, over those of the model of the same loss at its optimum."""
    pays_from_tokens: float | None
    """Tokens read and answered from which the smaller size has repaid its training; None if the size was larger."""
    extra_inference_flops_per_token: float
    """Above the model of the same loss at its optimum; negative if it saves."""
    outside: str | None


class Audit(NamedTuple):
    """One model under several laws."""

    model: str
    n_params: float
    n_tokens: float
    compute_flops: float
    laws: tuple[LawAudit, ...]
    verdict: str

    @property
    def tokens_per_param(self) -> float:
        """D/N."""
        return self.n_tokens / self.n_params


def audit(name: str, n_params: float, n_tokens: float, laws: Sequence[Law]) -> Audit:
    """The model under each of the laws, and what they say together."""
    found = tuple(_under(law, n_params, n_tokens) for law in laws)
    compute = FLOPS_PER_PARAM_TOKEN * n_params * n_tokens
    return Audit(name, n_params, n_tokens, compute, found, verdict_words([each.times_best_params for each in found]))


def verdict_words(times_best_params: Sequence[float]) -> str:
    """What all laws agree on: too big for its data, near the optimum, over-trained; or that they do not."""
    least, most = min(times_best_params), max(times_best_params)
    if least > NEAR_FACTOR:
        return "far too big for its data" if least > FAR_FACTOR else "too big for its data"
    if most < 1 / NEAR_FACTOR:
        return "far over-trained" if most < 1 / FAR_FACTOR else "over-trained"
    if least >= 1 / NEAR_FACTOR and most <= NEAR_FACTOR:
        return "near the optimum"
    return "the laws disagree"


def _under(law: Law, n_params: float, n_tokens: float) -> LawAudit:
    reached = loss(law, n_params, n_tokens)
    compute = FLOPS_PER_PARAM_TOKEN * n_params * n_tokens
    best, same = optimum(law, compute), optimum_for_loss(law, reached)
    extra_training = compute - same.compute_flops
    extra_per_token = FORWARD_FLOPS_PER_PARAM * (n_params - same.n_params)
    return LawAudit(
        law=law.name,
        loss=reached,
        best=best,
        same_loss=same,
        times_best_params=n_params / best.n_params,
        wasted_train_frac=extra_training / compute,
        inference_factor=n_params / same.n_params,
        pays_from_tokens=extra_training / -extra_per_token if extra_per_token < 0 else None,
        extra_inference_flops_per_token=extra_per_token,
        outside=outside_words(law, n_params, n_tokens),
    )
