"""One layer, forward and backward written out by hand: few passes over memory, and products as large as they can be.

What autograd would do, with the freedom to join what it keeps apart: q, k and v are one product, gate and up are one,
a residual is added by the product that ends its branch, weight gradients are added by the product that makes them,
and only what the backward pass reads is kept. The same functions run eagerly, are compiled (``torch.compile`` then
joins the elementwise passes as well) and run on meta tensors to be counted. Their gradients are tested against
autograd's through ``Decoder``.

Shapes: B sequences, T time, N = B T tokens, M model width, H heads, K key-value heads, D head size, F MLP width,
A = H + 2 K heads that one product makes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from twobills.jobs.nn.mixing import Mixing
from twobills.specs.model import ModelSpec


class LayerTensors(NamedTuple):
    """A layer's weights, or their gradients, in the same places."""

    norm_1: Tensor
    qkv: Tensor
    """q, k and v below one another, (A D, M)."""
    out: Tensor
    norm_2: Tensor
    up: Tensor
    """Gate and up below one another, (2 F, M); up alone where nothing gates."""
    down: Tensor
    q_norm: Tensor | None = None
    k_norm: Tensor | None = None


class Normed(NamedTuple):
    """A norm's output before its weight, and the factors that made it."""

    unit: Tensor
    inverse: Tensor
    """1 / root mean square, in fp32; the last dimension is 1."""


class Kept(NamedTuple):
    """What the backward pass of a layer reads."""

    norm_1: Normed
    normed_1: Tensor
    qk_norm: Normed | None
    qkv: Tensor
    """(A, B, T, D)."""
    mixed: tuple[Tensor, ...]
    """Of the mixing itself: probabilities, or what a fused kernel wants back."""
    mixed_rows: Tensor
    """(N, H D)."""
    norm_2: Normed
    normed_2: Tensor
    up: Tensor
    gate: Tensor
    """silu(gate), or relu(up) where nothing gates."""
    hidden: Tensor


def layer_forward(x_NM: Tensor, w: LayerTensors, spec: ModelSpec, mixing: Mixing) -> tuple[Tensor, Kept]:
    """The layer's output (N, M), and what its backward pass needs."""
    norm_1 = normalise(x_NM, spec.norm_eps)
    normed_1 = norm_1.unit * w.norm_1
    qkv = _heads_first(torch.mm(normed_1, w.qkv.t()), mixing.shape(spec))
    qk_norm = _normalise_qk(qkv, w, spec)
    _rotate(qkv[: spec.n_heads + spec.n_kv_heads], mixing.cos, mixing.sin)
    mixed_HBTD, mixed = mixing.forward(qkv, spec)
    mixed_NM = mixed_HBTD.permute(1, 2, 0, 3).reshape(len(x_NM), -1)
    y = torch.addmm(x_NM, mixed_NM, w.out.t())
    norm_2 = normalise(y, spec.norm_eps)
    normed_2 = norm_2.unit * w.norm_2
    up, gate, hidden = _mlp_forward(torch.mm(normed_2, w.up.t()), gated=spec.gated_mlp)
    z = torch.addmm(y, hidden, w.down.t())
    return z, Kept(norm_1, normed_1, qk_norm, qkv, mixed, mixed_NM, norm_2, normed_2, up, gate, hidden)


def layer_backward(
    grad_NM: Tensor, kept: Kept, w: LayerTensors, into: LayerTensors, spec: ModelSpec, mixing: Mixing
) -> Tensor:
    """The gradient of the layer's input; the weights' are added to ``into``."""
    into.down.addmm_(grad_NM.t(), kept.hidden)
    grad_up = _mlp_backward(grad_NM, kept, w.down, gated=spec.gated_mlp)
    into.up.addmm_(grad_up.t(), kept.normed_2)
    grad_NM = normalise_backward(torch.mm(grad_up, w.up), kept.norm_2, w.norm_2, into.norm_2, grad_NM)
    into.out.addmm_(grad_NM.t(), kept.mixed_rows)
    grad_mixed = _heads_first(torch.mm(grad_NM, w.out), (mixing.n_rows, mixing.seq_len, spec.n_heads, spec.d_head))
    grad_qkv = mixing.backward(grad_mixed, kept.qkv, kept.mixed, spec)
    _rotate(grad_qkv[: spec.n_heads + spec.n_kv_heads], mixing.cos, -mixing.sin)
    _normalise_qk_backward(grad_qkv, kept, w, into, spec)
    grad_qkv_NA = grad_qkv.permute(1, 2, 0, 3).reshape(len(grad_NM), -1)
    into.qkv.addmm_(grad_qkv_NA.t(), kept.normed_1)
    return normalise_backward(torch.mm(grad_qkv_NA, w.qkv), kept.norm_1, w.norm_1, into.norm_1, grad_NM)


def normalise(x: Tensor, eps: float) -> Normed:
    """Every row at unit root mean square. The mean is taken in fp32, or in fp64 of fp64."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    inverse = (length.square() / x.shape[-1] + eps).rsqrt()
    return Normed((x * inverse).to(x.dtype), inverse)


def normalise_backward(
    grad: Tensor, normed: Normed, weight: Tensor, into: Tensor, beside: Tensor | None = None
) -> Tensor:
    """The gradient of a norm's input, plus ``beside``; the weight's is added to ``into``."""
    product = grad * normed.unit
    into.add_(product.flatten(0, -2).sum(0))
    mean = torch.mv(product.flatten(0, -2), weight).view(*grad.shape[:-1], 1) / -grad.shape[-1]
    change = (grad * weight).addcmul_(normed.unit, mean)
    inverse = normed.inverse.to(grad.dtype)
    return change.mul_(inverse) if beside is None else torch.addcmul(beside, change, inverse)


def _heads_first(x_NX: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """(N, heads D) to (heads, B, T, D), where batches of heads are products' batches as they stand."""
    return x_NX.view(shape).permute(2, 0, 1, 3).contiguous()


def _rotate(x_ABTD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> None:
    """Rotary positions in place: a roll by half a head swaps the halves, the sine carries the swapped one's sign."""
    if torch.compiler.is_compiling():  # which makes slow code of a roll
        (a, b), half = x_ABTD.chunk(2, -1), x_ABTD.shape[-1] // 2
        cos, sin = cos_TD[:, half:], sin_TD[:, half:]
        x_ABTD.copy_(torch.cat((a * cos - b * sin, b * cos + a * sin), -1))
        return
    swapped = x_ABTD.roll(x_ABTD.shape[-1] // 2, -1)
    x_ABTD.mul_(cos_TD).addcmul_(swapped, sin_TD)


def _normalise_qk(qkv_ABTD: Tensor, w: LayerTensors, spec: ModelSpec) -> Normed | None:
    """Queries and keys normalised per head, in place (Qwen3)."""
    if w.q_norm is None or w.k_norm is None:
        return None
    qk = qkv_ABTD[: spec.n_heads + spec.n_kv_heads]
    normed = normalise(qk, spec.norm_eps)
    qk[: spec.n_heads] = normed.unit[: spec.n_heads] * w.q_norm
    qk[spec.n_heads :] = normed.unit[spec.n_heads :] * w.k_norm
    return normed


def _normalise_qk_backward(grad_ABTD: Tensor, kept: Kept, w: LayerTensors, into: LayerTensors, spec: ModelSpec) -> None:
    if kept.qk_norm is None:
        return
    n = spec.n_heads
    for part, weight, place in (
        (slice(n), w.q_norm, into.q_norm),
        (slice(n, n + spec.n_kv_heads), w.k_norm, into.k_norm),
    ):
        assert weight is not None
        assert place is not None
        normed = Normed(kept.qk_norm.unit[part], kept.qk_norm.inverse[part])
        grad_ABTD[part] = normalise_backward(grad_ABTD[part], normed, weight, place)


def _mlp_forward(up_NF: Tensor, *, gated: bool) -> tuple[Tensor, Tensor, Tensor]:
    """What the product made, silu of its gate (relu of it where nothing gates), and what the last product reads."""
    if not gated:
        relu = up_NF.relu_()
        return relu, relu, relu * relu
    gate, up = up_NF.chunk(2, dim=-1)
    silu = F.silu(gate)
    return up_NF, silu, silu * up


def _mlp_backward(grad_NM: Tensor, kept: Kept, down: Tensor, *, gated: bool) -> Tensor:
    """The gradient of what the first product made."""
    if not gated:
        twice = torch.addmm(kept.gate, grad_NM, down, beta=0, alpha=2)  # (relu^2)' = 2 relu
        return twice.mul_(kept.gate)
    gate, up = kept.up.chunk(2, dim=-1)
    grad_hidden = torch.mm(grad_NM, down)
    if torch.compiler.is_compiling():  # which joins these passes, and knows no output that is a part of a tensor
        grad_gate = torch.ops.aten.silu_backward(grad_hidden * up, gate)
        return torch.cat((grad_gate, grad_hidden * kept.gate), dim=-1)
    grad_up = torch.empty_like(kept.up)
    grad_gate_part, grad_up_part = grad_up.chunk(2, dim=-1)
    torch.mul(grad_hidden, kept.gate, out=grad_up_part)
    torch.ops.aten.silu_backward.grad_input(grad_hidden.mul_(up), gate, grad_input=grad_gate_part)
    return grad_up
