"""What N and C are in one law, said in the terms of another: with or without embeddings, 6ND or counted.

For a model of the catalogue the counts are exact. Where only a number of parameters is known, a shape is assumed: GPT's
layers of 12 d_model^2 parameters, d_model of ``WIDTH_PER_LAYER`` for each layer and one table of the vocabulary; then
total = N + V (WIDTH_PER_LAYER N / 12)^(1/3), of which Pearce & Song 2024, arXiv:2406.12907, made their reconciliation.
"""

from __future__ import annotations

from twobills.counts.conventions import train_flops
from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.laws.forms import ComputeMeaning, ParamsMeaning
from twobills.specs.flop_totals import FlopConvention
from twobills.specs.model import ModelSpec

WIDTH_PER_LAYER = 128.0
"""d_model / n_layers of GPT-3 (12288 / 96) and of many since; assumed."""
PARAMS_PER_LAYER = 12.0
"""In units of d_model^2: four of attention, eight of an MLP four times as wide."""
DEFAULT_VOCAB_SIZE = 50257
"""GPT-2's, which Kaplan's models had too."""


def params_as(model: ModelSpec, meaning: ParamsMeaning) -> int:
    """The model's parameters as a law of that convention counts them."""
    params = count_params(model)
    match meaning:
        case ParamsMeaning.TOTAL:
            return params.total
        case ParamsMeaning.NON_EMBEDDING:
            return params.non_embedding
        case ParamsMeaning.LINEAR:
            return params.matmul


def compute_as(
    model: ModelSpec, n_tokens: float, seq_len: int, meaning: ComputeMeaning, params: ParamsMeaning
) -> float:
    """FLOPs of training on ``n_tokens``, counted as a law of those conventions counts them."""
    if meaning is ComputeMeaning.COUNTED:
        return train_flops(model, n_tokens, seq_len, FlopConvention.MODEL_FLOPS)
    return 6.0 * params_as(model, params) * n_tokens


def total_params(non_embedding: float, vocab_size: int = DEFAULT_VOCAB_SIZE) -> float:
    """Parameters with one table of embeddings, of a model of the assumed shape."""
    if not non_embedding > 0:
        raise SpecError(f"non_embedding={non_embedding:g}: must be above 0")
    return non_embedding + vocab_size * _width(non_embedding)


def non_embedding_params(total: float, vocab_size: int = DEFAULT_VOCAB_SIZE) -> float:
    """Parameters without the table of embeddings, of a model of the assumed shape; the inverse of ``total_params``."""
    if not total > 0:
        raise SpecError(f"total={total:g}: must be above 0")
    width = _width(total)  # Newton from above on w^3 k + V w = total, a convex and rising function
    per_width = PARAMS_PER_LAYER / WIDTH_PER_LAYER
    for _ in range(60):
        width -= (per_width * width**3 + vocab_size * width - total) / (3 * per_width * width**2 + vocab_size)
    return per_width * width**3


def flops_per_token_of_shape(n_layers: int, d_model: int, *, vocab_size: int = 0, attended_tokens: float = 0) -> float:
    """Training FLOPs of one token of a GPT layer stack: 72 n_layers d_model^2, the head's 6 V d, attention's 12 l d s.

    ``attended_tokens`` is s for the whole square and half of it for the causal half. Ref: DeepSeek LLM 2024, table 3.
    """
    layers = 72.0 * n_layers * d_model**2
    return layers + 6.0 * vocab_size * d_model + 12.0 * n_layers * d_model * attended_tokens


def _width(non_embedding: float) -> float:
    return float((WIDTH_PER_LAYER * non_embedding / PARAMS_PER_LAYER) ** (1 / 3))
