"""What our own trainer holds at once: weights, masters, gradients, moments, and the activations of one part of a batch.

A step has four moments at which memory may peak, and the largest is the forecast: the loss, when every layer has kept
what its backward pass reads; the backward pass of the last layer; that of the embedding; the update. On a CPU the
passes are written by hand (``jobs.nn.by_hand``), on a GPU they are autograd's, with PyTorch's fused kernels for norms
and attention, run eagerly as the first step always is. Logits exist in chunks only. Left out: what the allocator
cannot use, libraries' scratch space, the batch itself, what several processes tell each other.
"""

from __future__ import annotations

from typing import NamedTuple

from twobills.counts.layers import LayerKind, layer_kinds
from twobills.counts.memory import attention_blocks, batch_parts, multiplied_keys
from twobills.counts.operations import matrices
from twobills.counts.params import count_params
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec

CHUNK_LOGITS, LEAST_CHUNK_TOKENS = 2**21, 64
"""Numbers in the logits that exist together, about, and the fewest tokens that they are of."""
_FP32 = DType.FP32.bytes


class StepMemory(NamedTuple):
    """Bytes of one training step on one device."""

    state_bytes: float
    """From the first step to the last: weights, masters, gradients, moments, the optimiser's own space."""
    part_bytes: float
    """On top of it while a part of the batch goes forward and backward."""
    update_bytes: float
    """On top of it while the weights are updated."""

    @property
    def peak_bytes(self) -> float:
        """The most that there is at once."""
        return self.state_bytes + max(self.part_bytes, self.update_bytes)


def chunk_tokens(vocab_size: int) -> int:
    """Tokens whose logits are made together."""
    return max(LEAST_CHUNK_TOKENS, CHUNK_LOGITS // vocab_size)


def rows_at_once(batch_size: int, seq_len: int, accumulate: int = 1, *, by_hand: bool = True) -> int:
    """Sequences whose activations exist together."""
    return -(-batch_size // (batch_parts(batch_size, seq_len, accumulate) if by_hand else accumulate))


def step_memory(
    model: ModelSpec, *, n_rows: int, seq_len: int, dtype: DType, optimizer: str = "muon", by_hand: bool = True
) -> StepMemory:
    """Bytes of a step whose parts are ``n_rows`` sequences."""
    n_tokens = n_rows * seq_len
    part = _part_by_hand(model, n_tokens, seq_len, dtype) if by_hand else _part_by_autograd(model, n_tokens, dtype)
    return StepMemory(
        state_bytes=training_state_bytes(model, dtype, optimizer),
        part_bytes=part,
        update_bytes=_update(model, dtype, optimizer),
    )


def training_state_bytes(model: ModelSpec, dtype: DType, optimizer: str = "muon") -> float:
    """Weights and gradients in ``dtype``, their fp32 masters (fp32 weights are their own), and the optimiser's state.

    AdamW: the gradient in fp32 and two moments; Muon: update and momentum in fp32, and its matrices in ``dtype``.
    """
    params = count_params(model)
    by_muon = params.layer_matmul if optimizer == "muon" else 0
    weights = params.total * (_FP32 + (dtype.bytes if dtype is not DType.FP32 else 0))
    state = (params.total - by_muon) * 3 * _FP32 + by_muon * (2 * _FP32 + dtype.bytes)
    return weights + params.total * dtype.bytes + state


def kept_by_hand(model: ModelSpec, n_tokens: float, seq_len: int, dtype: DType) -> float:
    """Bytes that all layers of the hand-written forward pass keep for the backward pass.

    Of a layer: each norm's output before and after its weight, the norms' factors in fp32, queries, keys and values,
    the mixed values, probabilities (or the fused kernel's output), and the MLP's four activations, two of an MLP that
    nothing gates.
    """
    n_blocks = attention_blocks(seq_len, dtype)
    total = 0.0
    for kind in layer_kinds(model):
        d_heads, d_qk = kind.n_heads * kind.d_qk, (kind.n_heads + kind.n_kv_heads) * kind.d_qk
        squares = kind.n_heads * multiplied_keys(seq_len, n_blocks) if n_blocks else d_heads
        numbers = 4 * model.d_model + d_qk + kind.n_kv_heads * kind.d_value + d_heads + squares + _mlp(kind)
        factors = 2 + (0 if n_blocks else kind.n_heads)
        if kind.qk_norm:
            numbers, factors = numbers + d_qk, factors + kind.n_heads + kind.n_kv_heads
        total += kind.n_layers * n_tokens * (numbers * dtype.bytes + factors * _FP32)
    return total


def kept_by_autograd(model: ModelSpec, n_tokens: float, dtype: DType) -> float:
    """Bytes that autograd keeps of all layers for the backward pass, the fused attention kernel keeping no square.

    Of a layer: inputs of norms and of products, rotated queries and keys, values, the kernel's output, and the MLP's
    four activations, two of an MLP that nothing gates.
    """
    total = 0.0
    for kind in layer_kinds(model):
        d_heads, d_kv = kind.n_heads * kind.d_qk, kind.n_kv_heads * kind.d_qk
        numbers = 4 * model.d_model + 2 * d_heads + 2 * d_kv + _mlp(kind)
        factors = 2 + kind.n_heads
        if kind.qk_norm:
            numbers, factors = numbers + d_heads + d_kv, factors + kind.n_heads + kind.n_kv_heads
        total += kind.n_layers * n_tokens * (numbers * dtype.bytes + factors * _FP32)
    return total


def _part_by_hand(model: ModelSpec, n_tokens: float, seq_len: int, dtype: DType) -> float:
    row = n_tokens * model.d_model * dtype.bytes
    kept = kept_by_hand(model, n_tokens, seq_len, dtype)
    loss = kept + 4 * row + _chunk(model, n_tokens, dtype)
    backward = kept + 3 * row + max(_layer_backward(kind, n_tokens, seq_len, dtype) for kind in layer_kinds(model))
    wide = model.vocab_size * model.d_model * _FP32 * (1 if dtype is DType.FP32 else 3)  # adding it in 16 bits copies
    embedding = wide + kept / model.n_layers + 4 * row
    return max(loss, backward, embedding)


def _layer_backward(kind: LayerKind, n_tokens: float, seq_len: int, dtype: DType) -> float:
    """What one layer makes on its way back: gradients in the MLP, or those in attention with a block of squares."""
    n_blocks = attention_blocks(seq_len, dtype)
    squares = 2 * kind.n_heads * seq_len / n_blocks if n_blocks else 4 * kind.n_heads * kind.d_qk
    attention = 7 * kind.n_heads * kind.d_qk + squares
    return n_tokens * dtype.bytes * max((3 if kind.gated else 1) * kind.d_ff, attention)


def _part_by_autograd(model: ModelSpec, n_tokens: float, dtype: DType) -> float:
    row, head = n_tokens * model.d_model * dtype.bytes, model.vocab_size * model.d_model * dtype.bytes
    kept = kept_by_autograd(model, n_tokens, dtype) + 2 * row
    widest = max(kind.d_ff for kind in layer_kinds(model)) * model.d_model * dtype.bytes
    layer = max((3 if kind.gated else 2) * kind.d_ff for kind in layer_kinds(model)) * n_tokens * dtype.bytes
    loss = kept + row + head + max(_chunk(model, n_tokens, dtype), head + row)
    backward = kept + 2 * row + layer + widest + (head if model.tied_embeddings else 0)
    return max(loss, backward)


def _chunk(model: ModelSpec, n_tokens: float, dtype: DType) -> float:
    """One chunk of logits, in fp32 too, their logarithms of probabilities, and the chunk before's gradient."""
    n_chunk = min(n_tokens, chunk_tokens(model.vocab_size))
    widened = dtype.bytes + (_FP32 if dtype is not DType.FP32 else 0) + _FP32
    return n_chunk * model.vocab_size * (widened + (dtype.bytes if n_chunk < n_tokens else 0))


def _update(model: ModelSpec, dtype: DType, optimizer: str) -> float:
    """Newton-Schulz iterations on the matrices of one shape: old and new, their squares and polynomials."""
    if optimizer != "muon":
        return 0.0
    shapes: dict[tuple[int, ...], int] = {}
    for shape in matrices(model):
        shapes[tuple(sorted(shape))] = shapes.get(tuple(sorted(shape)), 0) + 1
    return max(n * dtype.bytes * (2 * small * large + 2 * small * small) for (small, large), n in shapes.items())


def _mlp(kind: LayerKind) -> int:
    return (4 if kind.gated else 2) * kind.d_ff
