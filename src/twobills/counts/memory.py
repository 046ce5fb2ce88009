"""How many bytes a model takes at rest: weights, gradients, optimiser state, activations, KV cache."""

from __future__ import annotations

from itertools import pairwise

from twobills.counts.layers import LayerKind, layer_kinds
from twobills.counts.params import count_params
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec

SQUARE_MAX_SEQ_LEN = 1024
"""Up to this sequence length training keeps attention's probabilities; beyond it a fused kernel keeps none."""
SQUARE_BLOCKS = 2
"""Blocks of queries that the square of scores is cut into: each leaves out the keys that come after it."""
PART_TOKENS = 2048
"""Tokens that go through the network together on a CPU, about: their activations stay near the processor."""


def attention_blocks(seq_len: int, dtype: DType) -> int:
    """Blocks of the square that our trainer multiplies on a CPU; 0 where the fused kernel is taken.

    In fp32 the fused kernel runs as fast as products do; in 16 bits it runs far below them.
    """
    return SQUARE_BLOCKS if dtype.bytes == 2 and seq_len <= SQUARE_MAX_SEQ_LEN else 0


def multiplied_keys(seq_len: int, n_blocks: int) -> float:
    """Keys that a query is multiplied by, the mean over a sequence: all of them by the fused kernel."""
    if not n_blocks:
        return seq_len
    n = min(n_blocks, seq_len)
    edges = [seq_len * i // n for i in range(n + 1)]
    return sum((end - start) * end for start, end in pairwise(edges)) / seq_len


def batch_parts(batch_size: int, seq_len: int, accumulate: int = 1) -> int:
    """Parts that our trainer cuts a batch into on a CPU."""
    rows = max(1, PART_TOKENS // seq_len)
    return max(accumulate, -(-batch_size // rows))


def weight_bytes(model: ModelSpec, dtype: DType) -> float:
    """Bytes of all weights in one format."""
    return count_params(model).total * dtype.bytes


def engine_weight_bytes(model: ModelSpec, dtype: DType) -> float:
    """Bytes of weights that an engine step reads: all but an untied look-up table, of which it reads a few rows.

    All experts are read: a batch of some size leaves none out.
    """
    params = count_params(model)
    return (params.matmul + params.small) * dtype.bytes


def kv_bytes_per_token(model: ModelSpec, dtype: DType) -> float:
    """Bytes that one token leaves in the cache, all layers, before any window drops it.

    Latent attention caches its small vector and the shared rotary key only, as engines made for it do.
    """
    return sum(kind.n_layers * kind.kv_cache_width for kind in layer_kinds(model)) * dtype.bytes


def kv_bytes(model: ModelSpec, dtype: DType, *, context_len: int) -> float:
    """Bytes that one sequence holds in the cache: layers with a window keep at most a window of it."""
    numbers = sum(
        kind.n_layers * kind.kv_cache_width * min(context_len, kind.window or context_len)
        for kind in layer_kinds(model)
    )
    return numbers * dtype.bytes


def training_state_bytes(model: ModelSpec, dtype: DType) -> float:
    """Working weights and gradients in ``dtype`` beside an fp32 master and two fp32 moments."""
    return count_params(model).total * (2 * dtype.bytes + 3 * DType.FP32.bytes)


def activation_bytes(model: ModelSpec, *, batch_size: int, seq_len: int, dtype: DType) -> float:
    """Activations kept for the backward pass, nothing recomputed; probabilities up to ``SQUARE_MAX_SEQ_LEN``.

    Per layer and token: norms in and out, q, k, v (k and v repeated to every head), mixed values, the MLP's four
    activations (two where nothing gates) and one row of probabilities per head; then the logits in ``dtype`` and
    fp32. An estimate of the eager network's peak: allocator slack is left out.
    """
    n_tokens = batch_size * seq_len
    logits = n_tokens * model.vocab_size * (dtype.bytes + 2 * DType.FP32.bytes)
    per_token = sum(kind.n_layers * _kept_per_token(kind, model.d_model, seq_len) for kind in layer_kinds(model))
    return n_tokens * per_token * dtype.bytes + logits


def _kept_per_token(kind: LayerKind, d_model: int, seq_len: int) -> int:
    """Numbers that one token leaves for the backward pass of one layer."""
    probabilities = kind.n_heads * seq_len if seq_len <= SQUARE_MAX_SEQ_LEN else 0
    attention = 2 * kind.n_heads * (kind.d_qk + kind.d_value)
    return 2 * kind.n_norms * d_model + attention + (4 if kind.gated else 2) * kind.d_ff + probabilities
