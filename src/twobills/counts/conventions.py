"""How many FLOPs a training run takes, by each convention in which authors publish them.

One architecture, seven answers: they differ in whether the embedding table counts, in attention (none, its causal half,
the whole square) and in whether recomputed work counts. Ours is MODEL_FLOPS; the others exist to compare like with
like. Windows are respected by ours alone, as the others' formulas know of none. What a convention is in words stands
with ``FlopConvention``.
"""

from __future__ import annotations

from twobills.counts.flops import train_flops_per_token
from twobills.counts.layers import layer_kinds
from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.specs.flop_totals import FlopConvention
from twobills.specs.model import ModelSpec

_PER_PARAM = {FlopConvention.SIX_ND: 6, FlopConvention.SIX_ND_ACTIVE: 6, FlopConvention.EIGHT_ND: 8}
"""FLOPs for each parameter and token, in the conventions that need nothing else."""


def train_flops(model: ModelSpec, n_tokens: float, seq_len: int, convention: FlopConvention) -> float:
    """FLOPs of training on ``n_tokens`` in sequences of ``seq_len``, counted by ``convention``.

    Raises SpecError unless n_tokens is above 0 and seq_len within the model's.
    """
    if not n_tokens > 0:
        raise SpecError(f"n_tokens={n_tokens:g}: must be above 0")
    return n_tokens * convention_flops_per_token(model, seq_len, convention)


def train_flops_of_params(n_params: float, n_tokens: float, convention: FlopConvention) -> float:
    """FLOPs of a run of which only the parameters (the active ones, by six_nd_active) are known.

    Raises SpecError for a convention that needs the model's shape.
    Ref: Kaplan et al. 2020, arXiv:2001.08361, section 2.1; with recomputation Narayanan et al. 2021, arXiv:2104.04473,
    equation 4 (8 T P).
    """
    if convention not in _PER_PARAM:
        raise SpecError(
            f"convention={convention}: needs the model's shape; of parameters alone: {', '.join(_PER_PARAM)}"
        )
    return _PER_PARAM[convention] * n_params * n_tokens


def convention_flops_per_token(model: ModelSpec, seq_len: int, convention: FlopConvention) -> float:
    """FLOPs of training on one token, counted by ``convention``.

    palm: 6N + 12 n_layers n_heads d_head seq_len; Chowdhery et al. 2022, arXiv:2204.02311, appendix B.
    megatron: 72 l h^2 (1 + s/6h + V/12lh), full_recompute: 96 l h^2 (1 + s/6h + V/16lh); Narayanan et al. 2021,
    arXiv:2104.04473, appendix and equation 3, generalised from GPT's layers to any: what is 12 l h^2 there is the
    layers' matrices here. The head is not recomputed.

    Raises SpecError if seq_len is not within the model's.
    """
    if not 1 <= seq_len <= model.max_seq_len:
        raise SpecError(f"seq_len={seq_len}: must be between 1 and max_seq_len={model.max_seq_len}")
    params = count_params(model)
    match convention:
        case FlopConvention.SIX_ND | FlopConvention.EIGHT_ND:
            return train_flops_of_params(params.total, 1, convention)
        case FlopConvention.SIX_ND_ACTIVE:
            return train_flops_of_params(params.active, 1, convention)
        case FlopConvention.PALM:
            return 6 * params.active + 3 * _square_attention_flops(model, seq_len)
        case FlopConvention.MEGATRON:
            return 6 * params.matmul_active + 3 * _square_attention_flops(model, seq_len)
        case FlopConvention.FULL_RECOMPUTE:
            layers = 2 * params.active_layer_matmul + _square_attention_flops(model, seq_len)
            return 4 * layers + 6 * params.head
        case FlopConvention.MODEL_FLOPS:
            return train_flops_per_token(model, seq_len)


def _square_attention_flops(model: ModelSpec, seq_len: int) -> float:
    """Forward FLOPs of one token that attends to the whole sequence in every layer."""
    return sum(kind.n_layers * kind.attention_flops_per_key * seq_len for kind in layer_kinds(model))
