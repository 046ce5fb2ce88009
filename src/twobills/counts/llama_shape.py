"""A model of a given size where only the size is known: Llama 3's proportions.

Heads of 128 features, 8 of them for keys and values (fewer in a model with fewer heads), an MLP 3.5 times as wide as
the model, about 128 features of width for each layer (Llama 3 8B: 4096 / 32, 405B: 16384 / 126), untied tables of
128,256 tokens. Below 1.5 billion parameters that vocabulary would be most of the model, so the tables are tied and
have 32,000 rows.
"""

from __future__ import annotations

import math
from dataclasses import replace

from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.specs.model import ModelSpec
from twobills.units import show_count

D_HEAD, KV_HEADS, MAX_SEQ_LEN = 128, 8, 131_072
WIDTH_PER_LAYER = 128
SMALL_PARAMS = 1.5e9
LEAST_PARAMS, MOST_PARAMS = 1e7, 1e14


def llama_shape(n_params: float) -> ModelSpec:
    """The shape of about so many parameters; its true count is what ``count_params`` says.

    Raises SpecError for a size that is no language model's.
    """
    if not LEAST_PARAMS <= n_params <= MOST_PARAMS:
        raise SpecError(f"n_params={n_params:g}: must be between {LEAST_PARAMS:g} and {MOST_PARAMS:g}")
    heads = 1
    while count_params(_of_heads(2 * heads, n_params)).total < n_params:
        heads *= 2
    widths = dict.fromkeys(_of_heads(n, n_params) for n in range(heads, 2 * heads + 1))
    return min((_deepened(width, n_params) for width in widths), key=_unusual)


def _unusual(shape: ModelSpec) -> float:
    """How far its depth is from the usual one for its width, in logarithms."""
    return abs(math.log(shape.n_layers * WIDTH_PER_LAYER / shape.d_model))


def _of_heads(n_heads: int, n_params: float) -> ModelSpec:
    """Heads in steps of 8 once there are so many, as tensor parallelism wants."""
    n_heads = n_heads if n_heads < KV_HEADS else n_heads // KV_HEADS * KV_HEADS
    d_model, small = D_HEAD * n_heads, n_params < SMALL_PARAMS
    return ModelSpec(
        name=f"llama-shape-{show_count(n_params).replace('.00', '')}",
        n_layers=max(2, d_model // WIDTH_PER_LAYER),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=min(n_heads, KV_HEADS),
        d_head=D_HEAD,
        d_ff=round(3.5 * d_model),
        vocab_size=32_000 if small else 128_256,
        max_seq_len=MAX_SEQ_LEN,
        tied_embeddings=small,
        rope_theta=500_000.0,
    )


def _deepened(model: ModelSpec, n_params: float) -> ModelSpec:
    """With as many layers as come nearest to the size."""
    one = count_params(replace(model, n_layers=2)).total - count_params(replace(model, n_layers=1)).total
    rest = count_params(model).total - model.n_layers * one
    return replace(model, n_layers=max(1, round((n_params - rest) / one)))
