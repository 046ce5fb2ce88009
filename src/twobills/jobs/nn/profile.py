"""Counting the FLOPs of the kernels that really run, by PyTorch's own counter.

The counter does not know the CPU's fused attention, so its formulas are added here: a forward pass multiplies the
whole square twice, a backward pass five times, because it computes the probabilities again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

_Shape = Sequence[int]


def count_flops() -> FlopCounterMode:
    """A context manager whose ``get_total_flops()`` is what ran inside it, a multiply-add being 2."""
    return FlopCounterMode(display=False, custom_mapping=dict(_FORMULAS))


def _square(q: _Shape, k: _Shape) -> int:
    """One product of the square: (batch, heads, T, D) by (batch, heads, S, D)."""
    batch, heads, n_queries, d_head = q
    return 2 * batch * heads * n_queries * k[-2] * d_head


def _forward(q: _Shape, k: _Shape, *_: Any, **__: Any) -> int:
    return 2 * _square(q, k)


def _backward(_grad: _Shape, q: _Shape, k: _Shape, *_: Any, **__: Any) -> int:
    return 5 * _square(q, k)


_FORMULAS: Mapping[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}
