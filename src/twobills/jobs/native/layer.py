"""One layer, forward and backward, by the kernels of this folder: ``nn.by_hand`` with fewer passes over memory.

Attention keeps one number per query and head, and the MLP's hidden activations are made again on the way back.

Shapes: N tokens, M model width, H heads, D head size, A heads that one product makes, F MLP width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from twobills.jobs.native.kernels import LANES, WIDTHS, Heads, Kernels
from twobills.jobs.native.library import runs_here
from twobills.jobs.nn.by_hand import LayerTensors
from twobills.jobs.nn.mixing import Mixing
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec


class Kept(NamedTuple):
    """What the backward pass of a layer reads."""

    x: Tensor
    """The layer's input, (N, M)."""
    inverse_1: Tensor
    """1 / root mean square of its rows."""
    normed_1: Tensor
    qkv: Tensor
    """Rotated, (N, A D)."""
    mixed: Tensor
    """(N, H D)."""
    log_sums: Tensor
    """(N, H)."""
    y: Tensor
    """The residual between attention and MLP, (N, M)."""
    inverse_2: Tensor
    normed_2: Tensor
    up: Tensor
    """Gate and up, (N, 2 F), or up alone."""


class NativeLayer:
    """A layer's two passes; it keeps nothing but the library."""

    def __init__(self) -> None:
        self.kernels = Kernels()

    def forward(self, x_NM: Tensor, w: LayerTensors, spec: ModelSpec, mixing: Mixing) -> tuple[Tensor, Kept]:
        """The layer's output (N, M), and what its backward pass needs."""
        k = self.kernels
        normed_1, inverse_1 = k.norm(x_NM, w.norm_1, spec.norm_eps)
        qkv = k.linear(normed_1, w.qkv)
        mixed, log_sums = k.attention(qkv, _heads(spec, mixing), mixing.cos, mixing.sin, _in_vectors(mixing.forbidden))
        y = k.linear(mixed, w.out, x_NM)
        normed_2, inverse_2 = k.norm(y, w.norm_2, spec.norm_eps)
        up = k.linear(normed_2, w.up)
        z = k.linear(k.activation(up, gated=spec.gated_mlp), w.down, y)
        return z, Kept(x_NM, inverse_1, normed_1, qkv, mixed, log_sums, y, inverse_2, normed_2, up)

    def backward(
        self, grad_NM: Tensor, kept: Kept, w: LayerTensors, into: LayerTensors, spec: ModelSpec, mixing: Mixing
    ) -> Tensor:
        """The gradient of the layer's input; the weights' are added to ``into``."""
        k = self.kernels
        grad_up, hidden = k.activation_backward(k.linear_backward(grad_NM, w.down), kept.up, gated=spec.gated_mlp)
        k.weight_gradient(grad_NM, hidden, into.down)
        k.weight_gradient(grad_up, kept.normed_2, into.up)
        grad = k.linear_backward(grad_up, w.up)
        grad_NM = k.norm_backward(grad, kept.y, kept.inverse_2, w.norm_2, into.norm_2, grad_NM)
        k.weight_gradient(grad_NM, kept.mixed, into.out)
        grad_qkv = k.attention_backward(
            k.linear_backward(grad_NM, w.out), kept.qkv, kept.mixed, kept.log_sums,
            _heads(spec, mixing), mixing.cos, mixing.sin, _in_vectors(mixing.forbidden),
        )  # fmt: skip
        k.weight_gradient(grad_qkv, kept.normed_1, into.qkv)
        grad = k.linear_backward(grad_qkv, w.qkv)
        return k.norm_backward(grad, kept.x, kept.inverse_1, w.norm_1, into.norm_1, grad_NM)


def runs_natively(spec: ModelSpec, dtype: DType) -> bool:
    """Whether the kernels can run a network's layers on this machine."""
    widths = spec.d_model, spec.d_head, spec.d_ff
    fits = dtype is DType.BF16 and not spec.qk_norm and all(width % WIDTHS == 0 for width in widths)
    return fits and runs_here()


def _heads(spec: ModelSpec, mixing: Mixing) -> Heads:
    return Heads(mixing.n_rows, mixing.seq_len, spec.n_heads, spec.n_kv_heads, spec.d_head)


def _in_vectors(forbidden: Tensor | None) -> Tensor | None:
    """(B, T, T) with the keys of a query filled up to whole vectors."""
    return None if forbidden is None else F.pad(forbidden, (0, -forbidden.shape[-1] % LANES)).contiguous()
