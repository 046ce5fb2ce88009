"""A pass taken apart: the operations that evaluation and an engine step are made of, with FLOPs and bytes.

Written for the network as both jobs run it (one call per operator, nothing fused), so that a forecast can charge
each operation to what binds it. A "pass" is one tensor read or written once. The
trainer's step is in ``trained_step``. What every operator call costs before it does anything
is an operation of its own, "operator calls"; how many there are is a property of our code, which a test counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from twobills.counts.layers import LayerKind, Projection, layer_kinds
from twobills.counts.memory import attention_blocks, multiplied_keys
from twobills.specs.dtype import DType
from twobills.specs.efficiency import OpKind
from twobills.specs.model import ModelSpec

NEWTON_SCHULZ_STEPS = 5
NORM_PASSES = 17
"""Passes of one norm: unfused, and computed in fp32 between conversions from and to a 16-bit format."""
_CALLS_FORWARD, _CALLS_ENGINE = 85, 46
"""Operator calls per layer."""
_CALLS_CHUNK = 14
"""Operator calls per layer and prompt chunk beyond the first attention."""
_CALLS_FIXED = 36
"""Operator calls of a pass outside the layers."""
_FP32 = DType.FP32.bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """``calls`` operator calls of one kind; FLOPs and bytes are of all of them together."""

    name: str
    kind: OpKind
    flops: float
    bytes: float
    calls: float

    def times(self, n: float) -> Operation:
        """The same operation ``n`` times."""
        return replace(self, flops=self.flops * n, bytes=self.bytes * n, calls=self.calls * n)


def evaluate_operations(model: ModelSpec, *, batch_size: int, seq_len: int, dtype: DType) -> list[Operation]:
    """One forward pass with loss over a batch."""
    n_tokens = batch_size * seq_len
    return [
        *_trunk(model, n_tokens, dtype),
        *_attention(model, n_tokens, seq_len, dtype),
        *_head(model, n_tokens, dtype),
        *_cross_entropy(model, n_tokens, dtype),
        operator_calls(model.n_layers * _CALLS_FORWARD + _CALLS_FIXED),
    ]


def engine_step_operations(
    model: ModelSpec, *, n_tokens: float, n_attended: float, n_logits: float, n_chunks: int, dtype: DType
) -> list[Operation]:
    """One engine step over a flat batch: ``n_chunks`` separate attention calls per layer (decodes are one)."""
    attention = [
        operation
        for kind in layer_kinds(model)
        for operation in _engine_attention(kind, n_tokens, n_attended, n_chunks, dtype)
    ]
    sampling = streaming("sampling", 4 * n_logits * model.vocab_size * _FP32, calls=8)
    calls = operator_calls(model.n_layers * (_CALLS_ENGINE + _CALLS_CHUNK * (n_chunks - 1)) + _CALLS_FIXED)
    return [*_trunk(model, n_tokens, dtype), *attention, *_head(model, n_logits, dtype), sampling, calls]


def total_flops(operations: Iterable[Operation]) -> float:
    """FLOPs of all of them."""
    return sum(op.flops for op in operations)


def total_bytes(operations: Iterable[Operation]) -> float:
    """Bytes of all of them."""
    return sum(op.bytes for op in operations)


def _trunk(model: ModelSpec, n_tokens: float, dtype: DType) -> Iterator[Operation]:
    """All layers but the mixing of values."""
    for kind in layer_kinds(model):
        for projection in kind.projections:
            yield projection_product(projection, n_tokens, dtype).times(kind.n_layers)
        heads, kv = kind.n_heads * kind.d_qk, kind.n_kv_heads * kind.d_qk
        element, layers = n_tokens * dtype.bytes * kind.n_layers, kind.n_layers
        norms = kind.n_norms * NORM_PASSES
        yield streaming("norms", norms * model.d_model * element, calls=norms / 2 * layers)
        yield streaming("residuals", 2 * 3 * model.d_model * element, calls=2 * layers)
        yield streaming("rotary positions", 8 * (heads + kv) * element, calls=12 * layers)
        yield streaming("gating", (5 if kind.gated else 2) * kind.d_ff * element, calls=2 * layers)
    bridges = 2 * (model.d_embedding or 0)
    if bridges:
        yield product("embedding projections", n_tokens, model.d_model, bridges, dtype, calls=2)
    yield streaming("embedding", 2 * model.d_model * n_tokens * dtype.bytes, calls=1)


def _attention(model: ModelSpec, n_tokens: float, seq_len: int, dtype: DType) -> Iterator[Operation]:
    """Evaluation's attention: squares in blocks are multiplied, written and read, or the fused kernel is called."""
    n_blocks = attention_blocks(seq_len, dtype)
    keys = multiplied_keys(seq_len, n_blocks)
    square = n_tokens * keys * model.n_heads * dtype.bytes if n_blocks else 0.0
    for kind in layer_kinds(model):
        element = n_tokens * kind.n_heads * kind.d_qk * dtype.bytes
        yield Operation(
            name="attention products",
            kind=OpKind.ATTENTION,
            flops=n_tokens * min(keys, kind.window or seq_len) * kind.attention_flops_per_key,
            bytes=2 * (square + 3 * element),
            calls=2,
        ).times(kind.n_layers)
        softmax = Operation(name="softmax", kind=OpKind.SOFTMAX, flops=0, bytes=2 * square, calls=1)
        yield softmax.times(kind.n_layers)
        yield streaming("head layout", 10 * element, calls=6).times(kind.n_layers)


def _engine_attention(
    kind: LayerKind, n_tokens: float, n_attended: float, n_chunks: int, dtype: DType
) -> Iterator[Operation]:
    """An engine's attention in all layers of a kind; a window caps what is attended to."""
    layers = kind.n_layers
    attended = n_attended if kind.window is None else min(n_attended, n_tokens * kind.window)
    cached_bytes = attended * kind.kv_cache_width * dtype.bytes
    yield Operation(
        name="attention products",
        kind=OpKind.ATTENTION,
        flops=layers * kind.attention_flops_per_key * attended,
        bytes=layers * cached_bytes,
        calls=2 * layers * n_chunks,
    )
    yield Operation(
        name="softmax",
        kind=OpKind.SOFTMAX,
        flops=0,
        bytes=2 * layers * kind.n_heads * attended * dtype.bytes,
        calls=layers * n_chunks,
    )
    yield streaming("KV cache", 2 * layers * cached_bytes, calls=6 * layers * n_chunks)


def _head(model: ModelSpec, n_logits: float, dtype: DType) -> Iterator[Operation]:
    yield product("output head", n_logits, model.d_embedding or model.d_model, model.vocab_size, dtype, calls=1)


def _cross_entropy(model: ModelSpec, n_logits: float, dtype: DType) -> Iterator[Operation]:
    logits = n_logits * model.vocab_size
    yield streaming("logits to fp32", logits * (dtype.bytes + _FP32), calls=1)
    yield Operation(name="cross-entropy", kind=OpKind.SOFTMAX, flops=0, bytes=2 * logits * _FP32, calls=2)


def matrices(model: ModelSpec) -> list[tuple[int, int]]:
    """Shapes of all projections, one entry per matrix; fused ones are two."""
    return [
        (p.rows, p.columns // _n_fused(p))
        for kind in layer_kinds(model)
        for p in kind.projections
        for _ in range(kind.n_layers * p.n_stored * _n_fused(p))
    ]


def _n_fused(projection: Projection) -> int:
    """Matrices that stand side by side in one projection: gate and up, keys and values."""
    return 2 if " and " in projection.name else 1


def projection_product(projection: Projection, n_tokens: float, dtype: DType) -> Operation:
    """One projection of one layer; of experts, only the weights of those that some token passes are read."""
    calls, passed = _n_fused(projection), n_tokens * projection.n_active
    rows, columns = projection.rows, projection.columns
    weights = min(projection.n_stored, passed) * rows * columns if projection.n_stored > 1 else rows * columns
    return Operation(
        name=f"{projection.name} projection" + ("s" if calls > 1 else ""),
        kind=OpKind.MATMUL,
        flops=2 * passed * rows * columns,
        bytes=(passed * (rows * calls + columns) + weights) * dtype.bytes,
        calls=calls,
    )


def product(name: str, n_tokens: float, rows: int, columns: int, dtype: DType, calls: int) -> Operation:
    """A product of all tokens with a matrix of rows x columns."""
    moved = n_tokens * (rows * calls + columns) + rows * columns
    return Operation(
        name=name,
        kind=OpKind.MATMUL,
        flops=2 * n_tokens * rows * columns,
        bytes=moved * dtype.bytes,
        calls=calls,
    )


def operator_calls(n_calls: float) -> Operation:
    """What calling costs, whatever is called."""
    return Operation(name="operator calls", kind=OpKind.ELEMENTWISE, flops=0, bytes=0, calls=n_calls)


def streaming(name: str, n_bytes: float, calls: float) -> Operation:
    """An operation that only moves bytes."""
    return Operation(name=name, kind=OpKind.ELEMENTWISE, flops=0, bytes=n_bytes, calls=calls)
