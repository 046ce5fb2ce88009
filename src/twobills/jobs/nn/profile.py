"""Counting what the kernels that really run do: FLOPs by PyTorch's own counter, bytes by the tensors they touch.

The counter does not know the CPU's fused attention, so its formulas are added here: a forward pass multiplies the
whole square twice, a backward pass five times, because it computes the probabilities again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

_Shape = Sequence[int]


def count_flops() -> FlopCounterMode:
    """A context manager whose ``get_total_flops()`` is what ran inside it, a multiply-add being 2."""
    return FlopCounterMode(display=False, custom_mapping=dict(_FORMULAS))


class CountBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the bytes of every tensor that an operator reads or writes; views move nothing.

    What caches save is not seen: these are bytes asked for, not bytes on the memory's wires.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs the operator and counts its tensors."""
        del types
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.total += sum(x.nbytes for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor))
        return result


def _square(q: _Shape, k: _Shape) -> int:
    """One product of the square: (batch, heads, T, D) by (batch, heads, S, D)."""
    batch, heads, n_queries, d_head = q
    return 2 * batch * heads * n_queries * k[-2] * d_head


def _forward(q: _Shape, k: _Shape, *_: Any, **__: Any) -> int:
    return 2 * _square(q, k)


def _backward(_grad: _Shape, q: _Shape, k: _Shape, *_: Any, **__: Any) -> int:
    return 5 * _square(q, k)


def _added_product(_into: _Shape, a: _Shape, b: _Shape, *_: Any, **__: Any) -> int:
    """``addmm_`` and ``baddbmm_``, which PyTorch's counter does not know: (..., n, k) by (..., k, m)."""
    return 2 * math.prod(a) * b[-1]


_FORMULAS: Mapping[Any, Callable[..., int]] = {
    torch.ops.aten.addmm_: _added_product,
    torch.ops.aten.baddbmm_: _added_product,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}
