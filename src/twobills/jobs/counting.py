"""A stretch of somebody else's program, counted: FLOPs and bytes of every operator that PyTorch runs meanwhile.

Begun and ended by hand, as a program's steps have no block of their own. What is compiled runs uncompiled meanwhile.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils._pytree import tree_leaves

from twobills.jobs.nn.profile import count_flops

_FORMULAS = count_flops().flop_registry


class Executed(NamedTuple):
    """Work that ran."""

    flops: float
    """Of matrix products, a multiply-add being 2."""
    bytes: float
    """Of the tensors that operators read and wrote; 0 where only a config was counted."""


class CountExecuted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts FLOPs and bytes of every operator that runs inside it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.bytes = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs the operator and counts it; one made of others is taken apart first."""
        del types
        kwargs = kwargs or {}
        formula = _FORMULAS.get(getattr(func, "_overloadpacket", func))
        if formula is None and hasattr(func, "decompose"):
            with self:
                taken_apart = func.decompose(*args, **kwargs)
                if taken_apart is not NotImplemented:
                    return taken_apart
        result = func(*args, **kwargs)
        if formula is not None:
            self.flops += float(formula(*args, **kwargs, out_val=result))
        if not getattr(func, "is_view", False):
            self.bytes += sum(x.nbytes for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor))
        return result


class Counting:
    """One stretch of a program that is counted, begun and ended by hand.

    Modes lie on a stack, and the program may have its own there: this one can only be taken off while it is on top.
    """

    def __init__(self) -> None:
        # A compiled frame that first runs under a mode would never be compiled again; a stance is no such mark.
        compiles = "torch._dynamo" in sys.modules
        self._eagerly = torch.compiler.set_stance("force_eager") if compiles else None
        self._mode = CountExecuted()
        self._mode.__enter__()  # type: ignore[no-untyped-call]

    def end(self) -> Executed | None:
        """What was executed; None, and still counting, as long as a mode of the program's own lies above."""
        if _get_current_dispatch_mode_stack()[-1] is not self._mode:
            return None
        self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        if self._eagerly is not None:
            self._eagerly.__exit__(None, None, None)
        return Executed(self._mode.flops, self._mode.bytes)


def n_modes() -> int:
    """Dispatch modes that are active, the program's own and ours."""
    return len(_get_current_dispatch_mode_stack())
