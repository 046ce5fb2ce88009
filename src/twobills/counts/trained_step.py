"""What one step of our own trainer is made of: by hand on a CPU, part by part (``jobs.nn.by_hand``), then the update.

The operations are those that run, so that FLOPs agree with a profiler's and bytes with the tensors that operators
touch; a "pass" is one tensor read or written once. Muon's five Newton-Schulz iterations follow Jordan 2024. Left out:
what FSDP2 or a GPU run differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from twobills.counts.layers import LayerKind, layer_kinds
from twobills.counts.memory import attention_blocks, batch_parts, multiplied_keys
from twobills.counts.operations import (
    NEWTON_SCHULZ_STEPS,
    Operation,
    matrices,
    operator_calls,
    product,
    projection_product,
    streaming,
)
from twobills.counts.params import count_params
from twobills.specs.dtype import DType
from twobills.specs.efficiency import OpKind
from twobills.specs.model import ModelSpec

_NORM_PASSES = 9 + 14
"""Of one norm, forward (twice in fp32, which counts double) and backward."""
_ROTARY_PASSES = 2 * 7
_CALLS_SQUARE, _CALLS_FUSED, _CALLS_SHARED_HEADS, _CALLS_QK_NORM = 155, 107, 21, 49
"""Operator calls per layer and part, forward and backward: with squares, with the fused kernel, and what adds."""
_CALLS_PART, _CALLS_ADAMW, _CALLS_MUON, _CALLS_MUON_LAYER = 53, 25, 130, 22
"""Operator calls outside the layers: of a part, and of an update."""
_FP32 = DType.FP32.bytes


def train_step_operations(
    model: ModelSpec,
    *,
    batch_size: int,
    seq_len: int,
    dtype: DType,
    accumulate: int = 1,
    optimizer: str = "muon",
) -> list[Operation]:
    """Everything one optimiser step does: forward, backward, update."""
    n_parts = batch_parts(batch_size, seq_len, accumulate)
    n_tokens = batch_size * seq_len / n_parts
    part = [*_layers(model, n_tokens, seq_len, dtype), *_ends(model, n_tokens, dtype)]
    return [
        *(op.times(n_parts) for op in part),
        *_update(model, dtype, optimizer),
        operator_calls(n_parts * _calls(model, seq_len, dtype) + _update_calls(model, optimizer)),
    ]


def _layers(model: ModelSpec, n_tokens: float, seq_len: int, dtype: DType) -> Iterator[Operation]:
    for kind in layer_kinds(model):
        for projection in kind.projections:
            yield from _there_and_back(projection_product(projection, n_tokens, dtype).times(kind.n_layers))
        element, layers = n_tokens * dtype.bytes, kind.n_layers
        d_heads, d_kv = kind.n_heads * kind.d_qk, kind.n_kv_heads * kind.d_qk
        yield streaming("norms", kind.n_norms * _NORM_PASSES * model.d_model * element, calls=10).times(layers)
        if kind.qk_norm:
            yield streaming("norms of heads", _NORM_PASSES * (d_heads + d_kv) * element, calls=10).times(layers)
        yield streaming("rotary positions", _ROTARY_PASSES * (d_heads + d_kv) * element, calls=6).times(layers)
        yield streaming("head layout", (10 * d_heads + 8 * d_kv) * element, calls=6).times(layers)
        yield streaming("gating", (14 if kind.gated else 8) * kind.d_ff * element, calls=5).times(layers)
        for op in _attention(kind, n_tokens, seq_len, dtype):
            yield op.times(layers)


def _attention(kind: LayerKind, n_tokens: float, seq_len: int, dtype: DType) -> Iterator[Operation]:
    """Squares in blocks are written and read; the fused kernel writes none, and multiplies twice more to go back."""
    n_blocks = attention_blocks(seq_len, dtype)
    keys = min(multiplied_keys(seq_len, n_blocks), kind.window or seq_len)
    square = n_tokens * keys * kind.n_heads * dtype.bytes if n_blocks else 0.0
    element = n_tokens * kind.n_heads * kind.d_qk * dtype.bytes
    calls = 2 * max(1, n_blocks)
    forward = Operation(
        name="attention products",
        kind=OpKind.ATTENTION,
        flops=n_tokens * keys * kind.attention_flops_per_key,
        bytes=2 * square + 4 * element,
        calls=calls,
    )
    yield forward
    back = 2.0 if n_blocks else 2.5
    yield replace(forward.times(back), name=f"{forward.name}, backward")
    yield Operation(name="softmax", kind=OpKind.SOFTMAX, flops=0, bytes=5 * square, calls=calls)


def _ends(model: ModelSpec, n_tokens: float, dtype: DType) -> Iterator[Operation]:
    """Embedding, the last norm, head and loss."""
    element, logits = n_tokens * dtype.bytes, n_tokens * model.vocab_size
    d_embedding = model.d_embedding or model.d_model
    if model.d_embedding:
        bridges = product("embedding projections", n_tokens, model.d_model, 2 * d_embedding, dtype, calls=2)
        yield from _there_and_back(bridges)
    yield streaming("embedding", 9 * model.d_model * element, calls=3)
    yield streaming("last norm", _NORM_PASSES * model.d_model * element, calls=10)
    yield from _there_and_back(product("output head", n_tokens, d_embedding, model.vocab_size, dtype, calls=1))
    yield Operation(name="cross-entropy", kind=OpKind.SOFTMAX, flops=0, bytes=4 * logits * _FP32, calls=2)
    yield streaming("logits in fp32", logits * (2 * dtype.bytes + 4 * _FP32), calls=3)


def _there_and_back(forward: Operation) -> Iterator[Operation]:
    """A product and its two gradients."""
    yield forward
    yield replace(forward.times(2), name=f"{forward.name}, backward")


def _update(model: ModelSpec, dtype: DType, optimizer: str) -> Iterator[Operation]:
    params = count_params(model)
    projections = params.layer_matmul if optimizer == "muon" else 0
    yield streaming("AdamW", (params.total - projections) * (12 * _FP32 + 3 * dtype.bytes), calls=8)
    if not projections:
        return
    passes = (4 * NEWTON_SCHULZ_STEPS + 5) * dtype.bytes + 15 * _FP32
    yield streaming("Muon", projections * passes, calls=60)
    yield Operation(
        name="Newton-Schulz products",
        kind=OpKind.ATTENTION,
        flops=NEWTON_SCHULZ_STEPS * sum(_newton_schulz_flops(r, c) for r, c in matrices(model)),
        bytes=0,
        calls=4 * 3 * NEWTON_SCHULZ_STEPS,
    )


def _newton_schulz_flops(rows: int, columns: int) -> float:
    """One iteration X <- aX + (bA + cAA)X with A = XX^T, on the smaller side."""
    small, large = sorted((rows, columns))
    return 4 * small * small * large + 2 * small**3


def _calls(model: ModelSpec, seq_len: int, dtype: DType) -> float:
    """Operator calls of one part."""
    per_layer = _CALLS_SQUARE if attention_blocks(seq_len, dtype) else _CALLS_FUSED
    per_layer += _CALLS_SHARED_HEADS if model.n_kv_heads != model.n_heads else 0
    per_layer += _CALLS_QK_NORM if model.qk_norm else 0
    return model.n_layers * per_layer + _CALLS_PART


def _update_calls(model: ModelSpec, optimizer: str) -> float:
    return _CALLS_ADAMW + (_CALLS_MUON + model.n_layers * _CALLS_MUON_LAYER if optimizer == "muon" else 0)
