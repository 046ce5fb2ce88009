"""What somebody else's training step executes: FLOPs and bytes of real kernels, counted once for each shape.

The counter sits between PyTorch and its kernels while one forward pass, its backward pass or one optimiser's update
runs for the first time with inputs of a shape; every later one of that shape is taken to do the same. Counting slows
what is counted, so of many shapes (``MAX_COUNTED``) the rest is fitted to a·n + b·n·length + c over those that were,
n elements of the first input: exact for a transformer, whose products grow with the tokens and whose attention grows
with the square. A compiled network runs uncompiled while it is counted. Attention from outside PyTorch, whose products
no counter sees, is counted from the model's config instead, a backward pass as two forward ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from twobills.counts.flops import forward_flops
from twobills.errors import SpecError
from twobills.jobs.counting import Counting, Executed, n_modes
from twobills.specs.hf import from_hf
from twobills.specs.model import ModelSpec

MAX_COUNTED = 24
"""Shapes that are counted of passes of one kind; the rest is fitted to them."""
UNSEEN_ATTENTION = ("flash_attention_2", "flash_attention_3", "flash_attention_4")
"""Attention that ``transformers`` takes from other packages, whose products the counter does not see."""


class Source(StrEnum):
    """How FLOPs are known."""

    COUNTER = "operators that ran, counted once per shape"
    CONFIG = "the model's config"


class Passed(NamedTuple):
    """What a forward pass was given: passes that are equal in this do the same work."""

    shapes: tuple[tuple[int, ...], ...]
    with_grad: bool
    training: bool
    during: str
    """What the program was doing: a pass with gradients is followed by a backward pass in training only."""

    @property
    def features(self) -> tuple[float, float, float]:
        """Elements of the first input, elements x length, 1."""
        first = self.shapes[0] if self.shapes else (1,)
        n = float(np.prod(first))
        return n, n * (first[1] if len(first) > 1 else 1), 1.0


Report = Callable[[float, Executed], None]
"""Hears (tokens, work) of each pass and update as it ends."""


class CountedPasses:
    """Hears every forward pass of a network by a hook, and what follows it until the next one.

    The network must be the one that is called: a compiled one as ``torch.compile`` returned it.
    """

    def __init__(self, network: nn.Module, report: Report) -> None:
        self._report = report
        self.n_heard = self.n_fitted = 0
        """Passes that were heard, and those of them whose work was fitted."""
        self.during = ""
        """What the program is doing; passes are only alike while it does the same."""
        self._known: dict[Any, Executed] = {}
        self._counting: tuple[Any, Counting] | None = None
        self._n_modes = n_modes()
        self._passing: Passed | None = None
        self._tokens = 0.0
        self._config = _readable_config(network) if _attention(network) in UNSEEN_ATTENTION else None
        self.source = Source.CONFIG if self._config else Source.COUNTER
        self._recomputes = bool(getattr(_innermost(network), "is_gradient_checkpointing", False))
        self._handles = [
            network.register_forward_pre_hook(self._before, with_kwargs=True),
            network.register_forward_hook(self._after),
            register_optimizer_step_pre_hook(self._before_update),
        ]

    @property
    def n_counted(self) -> int:
        """Shapes and updates whose work is known."""
        return len(self._known)

    def boundary(self) -> None:
        """Ends what is being counted: a step ended, or a phase."""
        if self._counting is None:
            return
        what, counting = self._counting
        if (executed := counting.end()) is None:
            return
        self._counting = None
        if self._passing is None:  # else the pass failed half-way, and its count is no pass's
            self._known[what] = executed
            self._report(self._tokens if isinstance(what, Passed) else 0.0, executed)

    def close(self) -> None:
        """Ends the last count and leaves the network as it was."""
        self.boundary()
        for handle in self._handles:
            handle.remove()

    def _before(self, network: nn.Module, args: Any, kwargs: Any) -> None:
        if torch.compiler.is_compiling():
            return
        self.boundary()
        tensors = [*_tensors(args), *_tensors(kwargs.values())]
        shapes = tuple(tuple(x.shape) for x in tensors)
        self._passing = Passed(shapes, torch.is_grad_enabled(), network.training, self.during)
        self._tokens = _n_tokens(tensors)
        if self._passing in self._known:
            return
        if self._config is not None:
            self._known[self._passing] = self._by_config(self._config, self._passing)
        elif len(_alike(self._passing, self._known)) < MAX_COUNTED:
            self._count(self._passing)

    def _after(self, *_: Any) -> None:
        if torch.compiler.is_compiling() or self._passing is None:
            return
        self.n_heard += 1
        passed, self._passing = self._passing, None
        if self._counting is None:
            self._report(self._tokens, self._executed(passed))
        elif not passed.with_grad:
            self.boundary()

    def _before_update(self, optimizer: Optimizer, *_: Any) -> None:
        if torch.compiler.is_compiling() or self._config is not None:
            return
        self.boundary()
        if id(optimizer) in self._known:
            self._report(0.0, self._known[id(optimizer)])
        else:
            self._count(id(optimizer))

    def _count(self, what: Any) -> None:
        alone = n_modes() == self._n_modes
        if self._counting is None and alone:
            self._counting = what, Counting()

    def _executed(self, passed: Passed) -> Executed:
        if passed not in self._known:
            self.n_fitted += 1
            return _fitted(passed, self._known)
        return self._known[passed]

    def _by_config(self, model: ModelSpec, passed: Passed) -> Executed:
        if not passed.shapes:
            return Executed(0.0, 0.0)
        n_tokens = float(np.prod(passed.shapes[0][:2]))
        forward = forward_flops(model, n_tokens=n_tokens, n_attended=passed.features[1], n_logits=n_tokens)
        return Executed(forward * ((4 if self._recomputes else 3) if passed.with_grad else 1), 0.0)


class CountedSteps:
    """Counts whole steps of one phase, of a network that cannot be heard: one for each number of tokens.

    The first step is never counted, so that what is compiled there is; it gets the FLOPs of the ones after it.
    """

    source = Source.COUNTER

    def __init__(self, report: Report) -> None:
        self._report = report
        self._known: dict[float, Executed] = {}
        self._counting: Counting | None = None
        self._uncounted: list[float] = []
        """Tokens of each step whose work is not known yet."""
        self.n_heard = self.n_fitted = 0

    @property
    def n_counted(self) -> int:
        """Steps that were counted."""
        return len(self._known)

    def step(self, tokens: float) -> None:
        """A step of so many tokens ended."""
        self.n_heard += 1
        counted = self._counting.end() if self._counting else None
        if counted is not None:
            self._counting, self._known[tokens] = None, counted
        self._report(tokens, self._known.get(tokens, Executed(0.0, 0.0)))
        if tokens not in self._known:
            self._uncounted.append(tokens)
            if self._counting is None and len(self._known) < MAX_COUNTED:
                self._counting = Counting()
        if self._known:
            self._settle()

    def boundary(self) -> None:
        """Gives up what is being counted: another phase begins."""
        if self._counting and self._counting.end() is not None:
            self._counting = None

    def close(self) -> None:
        """Ends counting."""
        self.boundary()

    @property
    def uncounted_tokens(self) -> float:
        """Of steps whose work is not known yet."""
        return sum(self._uncounted)

    def _settle(self) -> None:
        """Steps that were not counted get the work of the counted one nearest in size, in proportion to tokens."""
        for tokens in self._uncounted:
            nearest = min(self._known, key=lambda known: abs(known - tokens))
            factor = tokens / nearest if nearest else 1.0
            self._report(0.0, Executed(*(factor * x for x in self._known[nearest])))
        self.n_fitted += len(self._uncounted)
        self._uncounted.clear()


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among arguments, and in a mapping that is one of them."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif hasattr(value, "values") and callable(value.values):
            found += [x for x in value.values() if isinstance(x, Tensor)]
    return found


def _n_tokens(tensors: list[Tensor]) -> float:
    """Elements of the first input of integers, padding included; of other inputs the examples."""
    tokens = next((x for x in tensors if not x.is_floating_point()), None)
    if tokens is not None:
        return float(tokens.numel())
    return float(tensors[0].shape[0]) if tensors and tensors[0].dim() else 0.0


def _fitted(passed: Passed, known: dict[Any, Executed]) -> Executed:
    """Least squares over the passes of the same kind that were counted; nothing where there are none."""
    alike = _alike(passed, known)
    if not alike:
        return Executed(0.0, 0.0)
    features, work = np.array([p.features for p in alike]), np.array([known[p] for p in alike])
    scale = features.max(axis=0)
    solution = np.linalg.lstsq(features / scale, work, rcond=None)[0]
    flops, moved = np.maximum(np.array(passed.features) / scale @ solution, 0.0)
    return Executed(float(flops), float(moved))


def _alike(passed: Passed, known: dict[Any, Executed]) -> list[Passed]:
    """Those of the known passes that differ in shape alone."""
    return [p for p in known if isinstance(p, Passed) and p[1:] == passed[1:]]


def _innermost(network: nn.Module) -> nn.Module:
    """The network inside the wrappers of ``torch.compile`` and data-parallel training."""
    while (inner := getattr(network, "_orig_mod", None) or getattr(network, "module", None)) is not None:
        if not isinstance(inner, nn.Module):
            break
        network = inner
    return network


def _attention(network: nn.Module) -> str | None:
    return getattr(getattr(_innermost(network), "config", None), "_attn_implementation", None)


def _readable_config(network: nn.Module) -> ModelSpec | None:
    """The shape that the network's Hugging Face config describes, None where it has none that we know."""
    to_dict = getattr(getattr(_innermost(network), "config", None), "to_dict", None)
    if to_dict is None:
        return None
    try:
        return from_hf(to_dict(), name=type(network).__name__)
    except (SpecError, TypeError, ValueError):
        return None
