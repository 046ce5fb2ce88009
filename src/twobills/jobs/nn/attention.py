"""Causal attention over a batch of equal lengths, forward and backward, for training and evaluation.

Two implementations of the same mathematics. ``SquareAttention`` multiplies the whole square in batched products and
keeps the probabilities: on a CPU in bf16 at short contexts it is about three times as fast as the fused kernel, which
there runs far below the matmul rate. PyTorch's fused kernel needs no square in memory and is right everywhere else.

Shapes: B batch, T time, H heads, K key-value heads, D head size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from twobills.counts.memory import SQUARE_MAX_SEQ_LEN


class CausalAttention:
    """An ``Attend`` for (B, T) tokens; one instance serves all layers and steps of a shape."""

    def __init__(self, seq_len: int, device: torch.device, dtype: torch.dtype) -> None:
        self.square = device.type == "cpu" and dtype == torch.bfloat16 and seq_len <= SQUARE_MAX_SEQ_LEN
        if self.square:
            mask = torch.full((1, seq_len, seq_len), -math.inf, device=device, dtype=dtype)
            self._mask_1TT = mask.triu(1)

    def __call__(self, layer: int, q_BTHD: Tensor, k_BTKD: Tensor, v_BTKD: Tensor) -> Tensor:
        del layer
        if not self.square:
            q, k, v = (x.transpose(1, 2) for x in (q_BTHD, k_BTKD, v_BTKD))
            grouped = q.shape[1] != k.shape[1]
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped).transpose(1, 2)
        B, T, H, D = q_BTHD.shape
        repeats = H // k_BTKD.shape[2]
        q, k, v = (
            x.transpose(1, 2).reshape(B * H, T, D)
            for x in (q_BTHD, _repeat_heads(k_BTKD, repeats), _repeat_heads(v_BTKD, repeats))
        )
        mask = self._mask_1TT[:, :T, :T]
        return SquareAttention.apply(q, k, v, mask).view(B, H, T, D).transpose(1, 2)  # type: ignore[no-untyped-call, no-any-return]


class SquareAttention(torch.autograd.Function):
    """softmax(q k^T / sqrt(D) + mask) v on (heads, T, D), with the probabilities kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """(heads, T, D) to the same."""
        scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=q.shape[-1] ** -0.5)
        probabilities = torch.softmax(scores, dim=-1)
        ctx.save_for_backward(q, k, v, probabilities)
        return torch.bmm(probabilities, v)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of q, k and v; the mask has none."""
        q, k, v, probabilities = ctx.saved_tensors
        (grad,) = grads
        scale = q.shape[-1] ** -0.5
        grad_v = torch.bmm(probabilities.transpose(1, 2), grad)
        grad_p = torch.bmm(grad, v.transpose(1, 2))
        grad_s = torch._softmax_backward_data(grad_p, probabilities, -1, probabilities.dtype)
        return torch.bmm(grad_s, k) * scale, torch.bmm(grad_s.transpose(1, 2), q) * scale, grad_v, None


def _repeat_heads(x_BTKD: Tensor, repeats: int) -> Tensor:
    """Every key-value head once per query head of its group."""
    return x_BTKD if repeats == 1 else x_BTKD.repeat_interleave(repeats, dim=2)
