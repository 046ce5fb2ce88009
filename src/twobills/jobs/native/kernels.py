"""The library's functions over tensors: contiguous, in bf16, on the CPU, widths and head sizes multiples of 32.

Every call adds what it executes to ``Work``, as PyTorch's counters see no call of a library.

Shapes: N tokens, M model width, X outputs, F MLP width, B sequences, T time, H heads, K key-value heads, D head size,
A = H + 2 K heads that one product makes.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from twobills.jobs.native.library import load

WIDTHS = 32
"""What widths and head sizes are multiples of."""
QUERIES, LANES = 48, 16
"""Queries of one of attention's blocks, and keys of a vector: what is multiplied of the square."""


@dataclass(slots=True)
class Work:
    """What calls executed."""

    flops: int = 0
    """Of products; a multiply-add is 2."""
    bytes: int = 0
    """Of every tensor that a call read or wrote."""


class Heads(NamedTuple):
    """How rows of one product are sequences of heads."""

    n_sequences: int
    seq_len: int
    n_heads: int
    n_kv_heads: int
    d_head: int

    @property
    def n_scores(self) -> int:
        """Scores that are multiplied: of a block of queries, all keys up to its end in whole vectors."""
        starts = range(0, self.seq_len, QUERIES)
        blocks = ((start, min(start + QUERIES, self.seq_len)) for start in starts)
        return self.n_sequences * self.n_heads * sum((end - start) * _whole(end) for start, end in blocks)


class Kernels:
    """The functions, run by as many threads as PyTorch uses."""

    def __init__(self) -> None:
        self._library = load()
        self.work = Work()

    def linear(self, x_NM: Tensor, weight_XM: Tensor, beside_NX: Tensor | None = None) -> Tensor:
        """x weight^T, plus ``beside``: (N, X)."""
        out = x_NM.new_empty(len(x_NM), len(weight_XM))
        self._executes(out.numel() * x_NM.shape[1], x_NM, weight_XM, beside_NX, out)
        read, sizes = (x_NM, weight_XM, beside_NX), _sizes(len(x_NM), *weight_XM.shape[::-1])
        self._library.twobills_forward_product(*(_at(x) for x in read), *sizes, _at(out), _threads())
        return out

    def linear_backward(self, grad_NX: Tensor, weight_XM: Tensor) -> Tensor:
        """grad weight: (N, M)."""
        out = grad_NX.new_empty(len(grad_NX), weight_XM.shape[1])
        self._executes(out.numel() * grad_NX.shape[1], grad_NX, weight_XM, out)
        sizes = _sizes(len(grad_NX), *weight_XM.shape[::-1])
        self._library.twobills_backward_product(_at(grad_NX), _at(weight_XM), *sizes, _at(out), _threads())
        return out

    def weight_gradient(self, grad_NX: Tensor, x_NM: Tensor, into_XM: Tensor) -> None:
        """Adds grad^T x."""
        self._executes(into_XM.numel() * len(x_NM), grad_NX, x_NM, into_XM)
        sizes = _sizes(len(x_NM), *into_XM.shape[::-1])
        self._library.twobills_weight_gradient(_at(grad_NX), _at(x_NM), *sizes, _at(into_XM), _threads())

    def attention(
        self, qkv: Tensor, heads: Heads, cos_TD: Tensor, sin_TD: Tensor, forbidden: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Mixed values (N, H D), and every query's log-sum-exp (N, H); rotates queries and keys of (N, A D) in place.

        ``forbidden`` (B, T, T rounded up to vectors) is added to the scores.
        """
        mixed = qkv.new_empty(len(qkv), heads.n_heads * heads.d_head)
        log_sums = qkv.new_empty(len(qkv), heads.n_heads, dtype=torch.float32)
        self._executes(2 * heads.n_scores * heads.d_head, qkv, mixed, log_sums, forbidden)
        self._library.twobills_attention_forward(
            *(_at(x) for x in (qkv, cos_TD, sin_TD, forbidden)), *_sizes(*heads), _at(mixed), _at(log_sums), _threads()
        )
        return mixed, log_sums

    def attention_backward(
        self,
        grad_mixed: Tensor,
        qkv: Tensor,
        mixed: Tensor,
        log_sums: Tensor,
        heads: Heads,
        cos_TD: Tensor,
        sin_TD: Tensor,
        forbidden: Tensor | None,
    ) -> Tensor:
        """The gradient of the product that made ``qkv``, before its rotation: (N, A D)."""
        out = torch.empty_like(qkv)
        self._executes(5 * heads.n_scores * heads.d_head, grad_mixed, qkv, mixed, log_sums, forbidden, out)
        read = grad_mixed, qkv, mixed, log_sums, cos_TD, sin_TD, forbidden
        self._library.twobills_attention_backward(*(_at(x) for x in read), *_sizes(*heads), _at(out), _threads())
        return out

    def norm(self, x_NM: Tensor, weight_M: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """x at unit root mean square times the weight, and 1 / root mean square (N,)."""
        normed, inverse = torch.empty_like(x_NM), x_NM.new_empty(len(x_NM), dtype=torch.float32)
        self._executes(0, x_NM, weight_M, normed, inverse)
        self._library.twobills_norm_forward(
            _at(x_NM), _at(weight_M), ctypes.c_float(eps), *_sizes(*x_NM.shape), _at(normed), _at(inverse), _threads()
        )
        return normed, inverse

    def norm_backward(
        self, grad_NM: Tensor, x_NM: Tensor, inverse_N: Tensor, weight_M: Tensor, into_M: Tensor, beside_NM: Tensor
    ) -> Tensor:
        """The gradient of x plus ``beside``; the weight's is added to ``into``."""
        out = torch.empty_like(x_NM)
        self._executes(0, grad_NM, x_NM, inverse_N, beside_NM, out)
        read = grad_NM, x_NM, inverse_N, weight_M, beside_NM
        self._library.twobills_norm_backward(
            *(_at(x) for x in read), *_sizes(*x_NM.shape), _at(out), _at(into_M), _threads()
        )
        return out

    def activation(self, up: Tensor, *, gated: bool) -> Tensor:
        """silu(gate) up of (N, 2 F), or relu(up)^2 of (N, F): (N, F)."""
        hidden = up.new_empty(len(up), up.shape[1] // (2 if gated else 1))
        self._executes(0, up, hidden)
        self._library.twobills_mlp_forward(_at(up), int(gated), *_sizes(*hidden.shape), _at(hidden), _threads())
        return hidden

    def activation_backward(self, grad_hidden: Tensor, up: Tensor, *, gated: bool) -> tuple[Tensor, Tensor]:
        """The gradient of ``up``, and what ``activation`` returned, made again."""
        grad_up, hidden = torch.empty_like(up), torch.empty_like(grad_hidden)
        self._executes(0, grad_hidden, up, grad_up, hidden)
        sizes = _sizes(*hidden.shape)
        self._library.twobills_mlp_backward(
            _at(grad_hidden), _at(up), int(gated), *sizes, _at(grad_up), _at(hidden), _threads()
        )
        return grad_up, hidden

    def _executes(self, n_multiply_adds: int, *tensors: Tensor | None) -> None:
        self.work.flops += 2 * n_multiply_adds
        self.work.bytes += sum(x.nbytes for x in tensors if x is not None)


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    if tensor is None:
        return ctypes.c_void_p()
    assert tensor.is_contiguous(), tensor.shape
    return ctypes.c_void_p(tensor.data_ptr())


def _sizes(*sizes: int) -> tuple[ctypes.c_int64, ...]:
    return tuple(ctypes.c_int64(size) for size in sizes)


def _threads() -> int:
    return torch.get_num_threads()


def _whole(n: int) -> int:
    return -(-n // LANES) * LANES
