"""A step taken apart: the operations that a training step and an engine step are made of, with FLOPs and bytes.

Written for the network as both jobs run it (one call per operator, nothing fused), so that a forecast can charge
each operation to what binds it. A "pass" is one tensor read or written once. Gradients of a product are two products;
gradients of a streaming operation move about twice its bytes. Optimiser: AdamW on embedding, head and norms, Muon's
five Newton-Schulz iterations on the projections (Jordan 2024). What every operator call costs before it does anything
is an operation of its own, "operator calls"; how many there are is a property of our code, which a test counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from twobills.counts.layers import LayerKind, Projection, layer_kinds
from twobills.counts.memory import SQUARE_MAX_SEQ_LEN
from twobills.counts.params import count_params
from twobills.specs.dtype import DType
from twobills.specs.efficiency import OpKind
from twobills.specs.model import ModelSpec

NEWTON_SCHULZ_STEPS = 5
NORM_PASSES = 17
"""Passes of one norm: unfused, and computed in fp32 between conversions from and to a 16-bit format."""
_CALLS_FORWARD, _CALLS_BACKWARD, _CALLS_ENGINE = 85, 152, 46
"""Operator calls per layer."""
_CALLS_CHUNK = 14
"""Operator calls per layer and prompt chunk beyond the first attention."""
_CALLS_FIXED, _CALLS_OPTIMISER = 36, 233
"""Operator calls outside the layers: of a pass, and of an update."""
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


def train_step_operations(model: ModelSpec, *, batch_size: int, seq_len: int, dtype: DType) -> list[Operation]:
    """Everything one optimiser step does: forward, backward, update."""
    n_tokens = batch_size * seq_len
    forward = [
        *_trunk(model, n_tokens, dtype),
        *_attention(model, n_tokens, seq_len, dtype),
        *_head(model, n_tokens, dtype),
        *_cross_entropy(model, n_tokens, dtype),
    ]
    backward = [replace(op.times(2), name=f"{op.name}, backward") for op in forward]
    per_layer = _CALLS_FORWARD + _CALLS_BACKWARD
    calls = _operator_calls(model.n_layers * per_layer + 2 * _CALLS_FIXED + _CALLS_OPTIMISER)
    return [*forward, *backward, *_optimiser(model, dtype), calls]


def evaluate_operations(model: ModelSpec, *, batch_size: int, seq_len: int, dtype: DType) -> list[Operation]:
    """One forward pass with loss over a batch."""
    n_tokens = batch_size * seq_len
    return [
        *_trunk(model, n_tokens, dtype),
        *_attention(model, n_tokens, seq_len, dtype),
        *_head(model, n_tokens, dtype),
        *_cross_entropy(model, n_tokens, dtype),
        _operator_calls(model.n_layers * _CALLS_FORWARD + _CALLS_FIXED),
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
    sampling = _streaming("sampling", 4 * n_logits * model.vocab_size * _FP32, calls=8)
    calls = _operator_calls(model.n_layers * (_CALLS_ENGINE + _CALLS_CHUNK * (n_chunks - 1)) + _CALLS_FIXED)
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
            yield _projection(projection, n_tokens, dtype).times(kind.n_layers)
        heads, kv = kind.n_heads * kind.d_qk, kind.n_kv_heads * kind.d_qk
        element, layers = n_tokens * dtype.bytes * kind.n_layers, kind.n_layers
        norms = kind.n_norms * NORM_PASSES
        yield _streaming("norms", norms * model.d_model * element, calls=norms / 2 * layers)
        yield _streaming("residuals", 2 * 3 * model.d_model * element, calls=2 * layers)
        yield _streaming("rotary positions", 8 * (heads + kv) * element, calls=12 * layers)
        yield _streaming("gating", (5 if kind.gated else 2) * kind.d_ff * element, calls=2 * layers)
    bridges = 2 * (model.d_embedding or 0)
    if bridges:
        yield _product("embedding projections", n_tokens, model.d_model, bridges, dtype, calls=2)
    yield _streaming("embedding", 2 * model.d_model * n_tokens * dtype.bytes, calls=1)


def _attention(model: ModelSpec, n_tokens: float, seq_len: int, dtype: DType) -> Iterator[Operation]:
    """Training's attention: whole squares are multiplied, and up to ``SQUARE_MAX_SEQ_LEN`` also written and read."""
    stored = seq_len if seq_len <= SQUARE_MAX_SEQ_LEN else 0
    square = n_tokens * stored * model.n_heads * dtype.bytes
    for kind in layer_kinds(model):
        element = n_tokens * kind.n_heads * kind.d_qk * dtype.bytes
        yield Operation(
            name="attention products",
            kind=OpKind.ATTENTION,
            flops=n_tokens * min(seq_len, kind.window or seq_len) * kind.attention_flops_per_key,
            bytes=2 * (square + 3 * element),
            calls=2,
        ).times(kind.n_layers)
        softmax = Operation(name="softmax", kind=OpKind.SOFTMAX, flops=0, bytes=2 * square, calls=1)
        yield softmax.times(kind.n_layers)
        yield _streaming("head layout", 10 * element, calls=6).times(kind.n_layers)


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
    yield _streaming("KV cache", 2 * layers * cached_bytes, calls=6 * layers * n_chunks)


def _head(model: ModelSpec, n_logits: float, dtype: DType) -> Iterator[Operation]:
    yield _product("output head", n_logits, model.d_embedding or model.d_model, model.vocab_size, dtype, calls=1)


def _cross_entropy(model: ModelSpec, n_logits: float, dtype: DType) -> Iterator[Operation]:
    logits = n_logits * model.vocab_size
    yield _streaming("logits to fp32", logits * (dtype.bytes + _FP32), calls=1)
    yield Operation(name="cross-entropy", kind=OpKind.SOFTMAX, flops=0, bytes=2 * logits * _FP32, calls=2)


def _optimiser(model: ModelSpec, dtype: DType) -> Iterator[Operation]:
    params = count_params(model)
    adam = params.total - params.layer_matmul
    yield _streaming("AdamW", adam * (9 * _FP32 + 3 * dtype.bytes), calls=8)
    passes = 4 * NEWTON_SCHULZ_STEPS * dtype.bytes + 12 * _FP32
    yield _streaming("Muon", params.layer_matmul * passes, calls=60)
    yield Operation(
        name="Newton-Schulz products",
        kind=OpKind.ATTENTION,
        flops=NEWTON_SCHULZ_STEPS * sum(_newton_schulz_flops(r, c) for r, c in _matrices(model)),
        bytes=0,
        calls=4 * 3 * NEWTON_SCHULZ_STEPS,
    )


def _matrices(model: ModelSpec) -> list[tuple[int, int]]:
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


def _newton_schulz_flops(rows: int, columns: int) -> float:
    """One iteration X <- aX + (bA + cAA)X with A = XX^T, on the smaller side."""
    small, large = sorted((rows, columns))
    return 4 * small * small * large + 2 * small**3


def _projection(projection: Projection, n_tokens: float, dtype: DType) -> Operation:
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


def _product(name: str, n_tokens: float, rows: int, columns: int, dtype: DType, calls: int) -> Operation:
    moved = n_tokens * (rows * calls + columns) + rows * columns
    return Operation(
        name=name,
        kind=OpKind.MATMUL,
        flops=2 * n_tokens * rows * columns,
        bytes=moved * dtype.bytes,
        calls=calls,
    )


def _operator_calls(n_calls: float) -> Operation:
    return Operation(name="operator calls", kind=OpKind.ELEMENTWISE, flops=0, bytes=0, calls=n_calls)


def _streaming(name: str, n_bytes: float, calls: float) -> Operation:
    return Operation(name=name, kind=OpKind.ELEMENTWISE, flops=0, bytes=n_bytes, calls=calls)
