"""How many bytes a model takes at rest, weights and KV cache, and how training cuts a batch so that little is moved."""

from __future__ import annotations

from itertools import pairwise

from twobills.counts.layers import layer_kinds
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
