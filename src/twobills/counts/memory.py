"""How many bytes a model takes at rest: weights, gradients, optimiser state, activations, KV cache."""

from __future__ import annotations

from twobills.counts.params import count_params
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec

SQUARE_MAX_SEQ_LEN = 1024
"""Up to this sequence length training keeps attention's probabilities; beyond it a fused kernel keeps none."""


def weight_bytes(model: ModelSpec, dtype: DType) -> float:
    """Bytes of all weights in one format."""
    return count_params(model).total * dtype.bytes


def engine_weight_bytes(model: ModelSpec, dtype: DType) -> float:
    """Bytes of weights that an engine step reads: all but an untied look-up table, of which it reads a few rows."""
    params = count_params(model)
    return (params.matmul + params.norm) * dtype.bytes


def kv_bytes_per_token(model: ModelSpec, dtype: DType) -> float:
    """Bytes of keys and values that one token leaves in the cache, all layers."""
    return 2 * model.n_layers * model.n_kv_heads * model.d_head * dtype.bytes


def training_state_bytes(model: ModelSpec, dtype: DType) -> float:
    """Working weights and gradients in ``dtype`` beside an fp32 master and two fp32 moments."""
    return count_params(model).total * (2 * dtype.bytes + 3 * DType.FP32.bytes)


def activation_bytes(model: ModelSpec, *, batch_size: int, seq_len: int, dtype: DType) -> float:
    """Activations kept for the backward pass, nothing recomputed; probabilities up to ``SQUARE_MAX_SEQ_LEN``.

    Per layer and token: 2 norms in and out, q, k, v (k and v repeated to every head), mixed values, three MLP
    activations and one row of probabilities per head; then the logits in ``dtype`` and fp32. An estimate of the
    eager network's peak: allocator slack is left out.
    """
    heads = model.n_heads * model.d_head
    per_layer = 4 * model.d_model + 4 * heads + 4 * model.d_ff
    if seq_len <= SQUARE_MAX_SEQ_LEN:
        per_layer += model.n_heads * seq_len
    n_tokens = batch_size * seq_len
    logits = n_tokens * model.vocab_size * (dtype.bytes + 2 * DType.FP32.bytes)
    return n_tokens * model.n_layers * per_layer * dtype.bytes + logits
