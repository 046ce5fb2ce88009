"""How queries find keys within a batch of equal lengths, written out for ``by_hand``: squares in blocks, or fused.

A ``Mixing`` holds what every layer shares: rotary tables, masks, and which implementation is used. Key-value heads
that several query heads share are repeated for them.

Shapes: B sequences, T time, H heads, K key-value heads, G = H / K, D head size, A = H + 2 K, S = H B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from twobills.jobs.nn.square import Block, blocks_of, square_backward, square_forward
from twobills.specs.model import ModelSpec

FUSED = 0
"""As a number of blocks: PyTorch's fused kernel, which keeps no probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """Attention over ``n_rows`` sequences of ``seq_len`` tokens."""

    n_rows: int
    seq_len: int
    cos: Tensor
    """(T, D), as ``sin``: the sine of the first half with its sign turned."""
    sin: Tensor
    blocks: tuple[Block, ...]
    """None of them: the fused kernel."""
    forbidden: Tensor | None = None
    """(B, T, T): -inf where documents differ."""

    def within(self, forbidden: Tensor | None) -> Mixing:
        """The same, for sequences whose documents may not see each other."""
        return self if forbidden is None else replace(self, forbidden=forbidden)

    def shape(self, spec: ModelSpec) -> tuple[int, int, int, int]:
        """(B, T, A, D)."""
        return self.n_rows, self.seq_len, spec.n_heads + 2 * spec.n_kv_heads, spec.d_head

    def forward(self, qkv_ABTD: Tensor, spec: ModelSpec) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Mixed values (H, B, T, D), and what the backward pass needs."""
        q, k, v = _split(qkv_ABTD, spec)
        if self.blocks:
            mixed, kept = square_forward(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), self.blocks, self.forbidden)
            return mixed.view(q.shape), tuple(kept)
        batch_first = (x.transpose(0, 1) for x in (q, k, v))
        out, logsumexp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            *batch_first, 0.0, self.forbidden is None, attn_mask=self._mask()
        )
        return out.transpose(0, 1), (out, logsumexp)

    def backward(self, grad_HBTD: Tensor, qkv_ABTD: Tensor, kept: tuple[Tensor, ...], spec: ModelSpec) -> Tensor:
        """The gradient of ``qkv_ABTD``."""
        q, k, v = _split(qkv_ABTD, spec)
        grads = torch.empty((3, *q.shape), dtype=q.dtype, device=q.device)
        if self.blocks:
            grad, q, k, v = (x.flatten(0, 1) for x in (grad_HBTD, q, k, v))
            square_backward(grad, q, k, v, kept, self.blocks, [x.flatten(0, 1) for x in grads])
        else:
            out, logsumexp = kept
            batch_first = (x.transpose(0, 1) for x in (grad_HBTD, q, k, v))
            parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                *batch_first, out, logsumexp, 0.0, self.forbidden is None, attn_mask=self._mask()
            )
            for place, part in zip(grads, parts, strict=True):
                place.copy_(part.transpose(0, 1))
        return _join(grads, spec)

    def _mask(self) -> Tensor | None:
        """The fused kernel's mask: the documents', and causality with it."""
        if self.forbidden is None:
            return None
        T = self.seq_len
        future = torch.full((T, T), -math.inf, dtype=self.forbidden.dtype, device=self.forbidden.device).triu_(1)
        return (self.forbidden + future)[:, None]


def make_mixing(
    spec: ModelSpec, *, n_rows: int, seq_len: int, n_blocks: int, dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> Mixing:  # fmt: skip
    """For batches of this shape, whose rows are one document each."""
    cos, sin = rotary_tables(seq_len, spec, dtype, device)
    blocks = blocks_of(seq_len, n_blocks, dtype=dtype, device=device) if n_blocks != FUSED else ()
    return Mixing(n_rows=n_rows, seq_len=seq_len, cos=cos, sin=sin, blocks=blocks)


def rotary_tables(
    seq_len: int, spec: ModelSpec, dtype: torch.dtype, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine of every position and feature, both (T, D)."""
    even = torch.arange(0, spec.d_head, 2, device=device, dtype=torch.float32)
    positions = torch.arange(seq_len, device=device, dtype=torch.float32)
    angles = positions[:, None] * spec.rope_theta ** (-even / spec.d_head)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)


def forbid(documents: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """(B, T, T): -inf where the query's document is not the key's, else 0."""
    if documents is None:
        return None
    differ = documents[:, :, None] != documents[:, None, :]
    return torch.zeros(differ.shape, dtype=dtype, device=documents.device).masked_fill_(differ, -math.inf)


def _split(qkv_ABTD: Tensor, spec: ModelSpec) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v, each (H, B, T, D)."""
    H, K = spec.n_heads, spec.n_kv_heads
    q, k, v = qkv_ABTD[:H], qkv_ABTD[H : H + K], qkv_ABTD[H + K :]
    shared = spec.n_heads // spec.n_kv_heads
    return (q, k, v) if shared == 1 else (q, k.repeat_interleave(shared, 0), v.repeat_interleave(shared, 0))


def _join(grads_3HBTD: Tensor, spec: ModelSpec) -> Tensor:
    """The gradients of q, k and v as one, those of shared heads summed."""
    shared = spec.n_heads // spec.n_kv_heads
    if shared == 1:
        return grads_3HBTD.flatten(0, 1)
    grad_q, grad_k, grad_v = grads_3HBTD
    summed = (x.unflatten(0, (-1, shared)).sum(1) for x in (grad_k, grad_v))
    return torch.cat((grad_q, *summed))
