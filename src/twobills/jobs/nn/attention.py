"""Causal attention over a batch of equal lengths, for what goes through autograd: evaluation, GPUs, many processes.

Two implementations of the same mathematics: squares in blocks (``square``), which on a CPU in bf16 at short contexts
is several times as fast, and PyTorch's fused kernel (flash attention on a GPU), which needs no square in memory and is
right everywhere else. With ``documents`` attention stays inside them: a mask on a CPU, FlexAttention's blocks on a GPU.

Shapes: B batch, T time, H heads, K key-value heads, D head size.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from twobills.counts.memory import attention_blocks
from twobills.jobs.device import TORCH_DTYPES
from twobills.jobs.nn.mixing import forbid
from twobills.jobs.nn.square import Block, blocks_of, square_backward, square_forward


class CausalAttention:
    """An ``Attend`` for (B, T) tokens; one instance serves all layers and steps of a shape."""

    def __init__(self, seq_len: int, device: torch.device, dtype: torch.dtype) -> None:
        n_blocks = default_blocks(seq_len, device, dtype)
        self.blocks = blocks_of(seq_len, n_blocks, dtype=dtype, device=device) if n_blocks else ()
        self._seq_len, self._device, self._dtype = seq_len, device, dtype
        self._forbidden: Tensor | None = None
        self._block_mask: Any = None

    @property
    def square(self) -> bool:
        """Whether squares are multiplied, not the fused kernel called."""
        return bool(self.blocks)

    def within(self, documents: Tensor | None) -> CausalAttention:
        """The same, kept inside the documents that (B, T) numbers."""
        if documents is None:
            return self
        inside = CausalAttention(self._seq_len, self._device, self._dtype)
        if self._device.type == "cuda":
            inside._block_mask = _document_blocks(documents)
        else:
            inside._forbidden = forbid(documents, self._dtype)
        return inside

    def __call__(self, layer: int, q_BTHD: Tensor, k_BTKD: Tensor, v_BTKD: Tensor) -> Tensor:
        del layer
        T, H = q_BTHD.shape[1:3]
        repeats = H // k_BTKD.shape[2]
        q, k, v = (x.transpose(1, 2) for x in (q_BTHD, k_BTKD, v_BTKD))
        if self._block_mask is not None:
            mixed = _flex()(q, k, v, block_mask=self._block_mask, enable_gqa=repeats > 1)
        elif not self.square:
            mask = None if self._forbidden is None else self._causal(T)
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=repeats > 1
            )
        else:
            q, k, v = (x.transpose(0, 1) for x in (q, _repeat_heads(k, repeats), _repeat_heads(v, repeats)))
            flat = (x.reshape(-1, T, x.shape[-1]) for x in (q, k, v))
            blocks = _up_to(T, self.blocks)
            mixed = SquareAttention.apply(*flat, blocks, self._forbidden).view(q.shape).transpose(0, 1)  # type: ignore[no-untyped-call]
        return mixed.transpose(1, 2)  # type: ignore[no-any-return]

    def _causal(self, seq_len: int) -> Tensor:
        assert self._forbidden is not None
        future = torch.full((seq_len, seq_len), -torch.inf, dtype=self._dtype, device=self._device).triu_(1)
        return (self._forbidden + future)[:, None]


class SquareAttention(torch.autograd.Function):
    """``square_forward`` and ``square_backward`` as one function of q, k and v, each (heads, T, D)."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, blocks: tuple[Block, ...], forbidden: Tensor | None = None
    ) -> Tensor:
        """(heads, T, D) to the same."""
        out, probabilities = square_forward(q, k, v, blocks, forbidden)
        ctx.save_for_backward(q, k, v, *probabilities)
        ctx.blocks = blocks
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        """Gradients of q, k and v; blocks and mask have none."""
        q, k, v, *probabilities = ctx.saved_tensors
        out = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v)]
        square_backward(grads[0], q, k, v, probabilities, ctx.blocks, out)
        return *out, None, None


def default_blocks(seq_len: int, device: torch.device, dtype: torch.dtype) -> int:
    """Blocks that the square is cut into on this device; 0 is the fused kernel."""
    ours = next((d for d, theirs in TORCH_DTYPES.items() if theirs == dtype), None)
    return attention_blocks(seq_len, ours) if ours is not None and device.type == "cpu" else 0


def _up_to(seq_len: int, blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """The blocks of a shorter sequence."""
    if blocks[-1].end == seq_len:
        return blocks
    mask = blocks[-1].mask
    return blocks_of(seq_len, len(blocks), dtype=mask.dtype, device=mask.device)


def _repeat_heads(x_BKTD: Tensor, repeats: int) -> Tensor:
    """Every key-value head once per query head of its group."""
    return x_BKTD if repeats == 1 else x_BKTD.repeat_interleave(repeats, dim=1)


def _document_blocks(documents: Tensor) -> Any:
    """FlexAttention's mask: causal, and only within the documents."""

    def allowed(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        del h
        return (q >= k) & (documents[b, q] == documents[b, k])

    B, T = documents.shape
    return create_block_mask(allowed, B, None, T, T, device=documents.device)


@cache
def _flex() -> Any:
    """Compiled: as it stands it would build whole squares."""
    return torch.compile(flex_attention, dynamic=False)
