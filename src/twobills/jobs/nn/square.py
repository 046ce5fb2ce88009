"""Causal attention as batched products, forward and backward written out: no autograd, no fused kernel.

The square of scores is cut into a few blocks of queries, and each multiplies only the keys up to its end: two blocks
leave out a quarter of the square, four three eighths. On a CPU in bf16 at short contexts this is several times as
fast as the fused kernel, which there runs far below the matmul rate; the probabilities are kept for the backward pass.

Shapes: S all heads of all sequences, T time, D head size, t the queries of a block, u the keys that they see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor


class Block(NamedTuple):
    """Queries ``start`` to ``end``, which see the keys up to ``end``."""

    start: int
    end: int
    mask: Tensor
    """Added to the scores: -inf where a key comes after the query; (1, t, u)."""


def blocks_of(
    seq_len: int, n_blocks: int, *, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> tuple[Block, ...]:
    """The queries of a sequence in ``n_blocks`` parts as even as can be, fewer where the sequence is shorter."""
    n = min(n_blocks, seq_len)
    edges = [seq_len * i // n for i in range(n + 1)]
    return tuple(_block(a, b, dtype, device) for a, b in pairwise(edges))


def square_forward(
    q_STD: Tensor, k_STD: Tensor, v_STD: Tensor, blocks: Sequence[Block], forbidden: Tensor | None = None
) -> tuple[Tensor, list[Tensor]]:
    """softmax(q k^T / sqrt(D) + mask) v, and each block's probabilities.

    ``forbidden`` (B, T, T) is added to the scores where documents may not see each other; heads then stand outermost
    in S, so that sequences repeat.
    """
    scale = q_STD.shape[-1] ** -0.5
    out, kept = torch.empty_like(v_STD), []
    for start, end, mask in blocks:
        keys = k_STD[:, :end].transpose(1, 2)
        scores_Stu = torch.baddbmm(mask, q_STD[:, start:end], keys, alpha=scale)
        if forbidden is not None:
            scores_Stu.view(-1, len(forbidden), *scores_Stu.shape[1:]).add_(forbidden[:, start:end, :end])
        probabilities = softmax(scores_Stu)
        out[:, start:end] = torch.bmm(probabilities, v_STD[:, :end])
        kept.append(probabilities)
    return out, kept


def square_backward(
    grad_STD: Tensor,
    q_STD: Tensor,
    k_STD: Tensor,
    v_STD: Tensor,
    probabilities: Sequence[Tensor],
    blocks: Sequence[Block],
    out: Sequence[Tensor],
) -> None:
    """Writes the gradients of q, k and v into ``out``."""
    scale = q_STD.shape[-1] ** -0.5
    grad_q, grad_k, grad_v = out
    beta = 0.0  # the last block sees all keys, so what it writes is there for the others to add to
    for (start, end, _), p_Stu in reversed([*zip(blocks, probabilities, strict=True)]):
        grad, q, k, v = grad_STD[:, start:end], q_STD[:, start:end], k_STD[:, :end], v_STD[:, :end]
        _add_product(grad_v[:, :end], p_Stu.transpose(1, 2), grad, beta)
        grad_s = softmax_backward(torch.bmm(grad, v.transpose(1, 2)), p_Stu)
        _add_product(grad_q[:, start:end], grad_s, k, 0.0, scale)
        _add_product(grad_k[:, :end], grad_s.transpose(1, 2), q, beta, scale)
        beta = 1.0


@torch.library.custom_op("twobills::softmax", mutates_args=())
def softmax(scores: Tensor) -> Tensor:
    """Over the last dimension. An operator of its own, so that compiling keeps PyTorch's kernel: its own is slower."""
    return torch.softmax(scores, -1)


@torch.library.custom_op("twobills::softmax_backward", mutates_args=())
def softmax_backward(grad: Tensor, probabilities: Tensor) -> Tensor:
    """The gradient of the scores."""
    return torch._softmax_backward_data(grad, probabilities, -1, probabilities.dtype)


@softmax.register_fake
def _(scores: Tensor) -> Tensor:
    return torch.empty_like(scores)


@softmax_backward.register_fake
def _(grad: Tensor, probabilities: Tensor) -> Tensor:
    del probabilities
    return torch.empty_like(grad)


def n_scores(blocks: Sequence[Block]) -> int:
    """Scores of one head that are multiplied."""
    return sum((block.end - block.start) * block.end for block in blocks)


def _block(start: int, end: int, dtype: torch.dtype, device: torch.device | str) -> Block:
    mask = torch.full((1, end - start, end), -math.inf, dtype=dtype, device=device).triu(start + 1)
    return Block(start, end, mask)


def _add_product(into: Tensor, a: Tensor, b: Tensor, beta: float, alpha: float = 1.0) -> None:
    """into = beta * into + alpha * a b."""
    if not torch.compiler.is_compiling():
        into.baddbmm_(a, b, beta=beta, alpha=alpha)
    elif beta:
        into += torch.bmm(a, b) * alpha
    else:
        into.copy_(torch.bmm(a, b) * alpha)
