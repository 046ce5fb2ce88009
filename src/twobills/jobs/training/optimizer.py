"""The optimiser: Muon for the layers' projections and AdamW for the rest, or AdamW for all; fp32 masters under both.

The network's weights, gradients, masters and moments are a few flat buffers, so a step is a handful of large calls
instead of several per parameter: one fused AdamW call, and one batched Newton-Schulz iteration per shape of
projection. Muon replaces a matrix's momentum by the nearest orthogonal matrix.
Ref: Loshchilov & Hutter 2019 (AdamW); Jordan et al. 2024 (Muon: the quintic's coefficients and the scaling by shape).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from twobills.counts.operations import NEWTON_SCHULZ_STEPS
from twobills.jobs.training.flat import FlatWeights, Span
from twobills.specs.training import TrainingSpec

BETAS = (0.9, 0.95)
EPSILON = 1e-8
CLIP_NORM = 1.0
MOMENTUM = 0.95
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Optimizer:
    """Takes over a network's parameters: casts them to the working format and keeps their fp32 masters."""

    def __init__(self, network: nn.Module, spec: TrainingSpec, dtype: torch.dtype) -> None:
        self.flat = FlatWeights(network, dtype)
        self._n_updates = torch.zeros((), device=self.flat.master.device)
        muon = spec.optimizer == "muon"
        self._adam = [_AdamW(self.flat, self.flat.others, spec.lr, 0.0)]
        if not muon:
            self._adam.append(_AdamW(self.flat, self.flat.matrices, spec.lr, spec.weight_decay))
        self._muon = _Muon(self.flat, spec) if muon else None

    @torch.no_grad()
    def step(self, lr_scale: float, accept: Callable[[Tensor], bool] | None = None) -> Tensor:
        """Updates the weights by their gradients, at ``lr_scale`` of the peak rates, and zeroes the gradients.

        Returns the norm of all gradients before clipping; where ``accept`` of it is false, nothing is updated. Muon
        is deaf to a gradient's length: only AdamW's are clipped, by their own norm.
        """
        norms = [adam.widen() for adam in self._adam] + ([self._muon.widen()] if self._muon else [])
        norm = _norm_of(norms)
        if accept is None or accept(norm):
            self._update(_norm_of(norms[: len(self._adam)]), lr_scale)
        self.flat.grad.zero_()
        return norm

    def state(self) -> dict[str, Tensor]:
        """All that a resumed run needs, by name: live views, so that loading is copying into them."""
        state = {"n_updates": self._n_updates}
        state |= {f"master.{name}": view for name, view in self.flat.views(self.flat.master)}
        for adam in self._adam:
            state |= dict(adam.state())
        return state | dict(self._muon.state()) if self._muon else state

    @torch.no_grad()
    def refresh(self) -> None:
        """Casts the masters to the working weights again."""
        if self.flat.work is not self.flat.master:
            self.flat.work.copy_(self.flat.master)

    def _update(self, adam_norm: Tensor, lr_scale: float) -> None:
        self._n_updates += 1
        scale = (CLIP_NORM / (adam_norm + 1e-6)).clamp(max=1.0)
        for adam in self._adam:
            adam.step(self._n_updates, scale, lr_scale)
        if self._muon:
            self._muon.step(lr_scale)
        self.refresh()


class _AdamW:
    """One span of the flat weights, updated by one fused call."""

    def __init__(self, flat: FlatWeights, span: Span, lr: float, weight_decay: float) -> None:
        self.span, self._flat = span, flat
        self._lr, self._decay = lr, weight_decay
        self._master, self._work_grad = span.of(flat.master), span.of(flat.grad)
        self._grad = torch.zeros_like(self._master)
        self._exp_avg, self._exp_avg_sq = torch.zeros_like(self._master), torch.zeros_like(self._master)

    def widen(self) -> Tensor:
        """Takes the gradients over in fp32; returns their norm."""
        norm: Tensor = torch.linalg.vector_norm(self._grad.copy_(self._work_grad))
        return norm

    def step(self, n_updates: Tensor, clip: Tensor, lr_scale: float) -> None:
        self._grad.mul_(clip)
        torch._fused_adamw_(
            [self._master],
            [self._grad],
            [self._exp_avg],
            [self._exp_avg_sq],
            [],
            [n_updates],
            lr=self._lr * lr_scale,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=self._decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> Iterator[tuple[str, Tensor]]:
        for label, moment in (("exp_avg", self._exp_avg), ("exp_avg_sq", self._exp_avg_sq)):
            for name, view in self._flat.views_in(self.span, moment):
                yield f"{label}.{name}", view


class _Muon:
    """All projections; those of one shape, or its transpose, are made orthogonal together."""

    def __init__(self, flat: FlatWeights, spec: TrainingSpec) -> None:
        self.span, self._flat = flat.matrices, flat
        self._lr, self._decay = spec.muon_lr, spec.weight_decay * spec.muon_lr
        self._master, self._work_grad = self.span.of(flat.master), self.span.of(flat.grad)
        self._momentum, self._update = torch.zeros_like(self._master), torch.zeros_like(self._master)
        self._stacks = [_Stack(views, flat.work.dtype) for views in _by_shape(flat, self._update)]

    def widen(self) -> Tensor:
        """Takes the gradients over in fp32; returns their norm."""
        norm: Tensor = torch.linalg.vector_norm(self._update.copy_(self._work_grad))
        return norm

    def step(self, lr_scale: float) -> None:
        self._momentum.lerp_(self._update, 1 - MOMENTUM)
        self._update.lerp_(self._momentum, MOMENTUM)
        for stack in self._stacks:
            stack.orthogonalise()
        self._master.mul_(1 - self._decay * lr_scale).add_(self._update, alpha=-self._lr * lr_scale)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        for name, view in self._flat.views_in(self.span, self._momentum):
            yield f"momentum.{name}", view


class _Stack:
    """Updates of one shape, each with as many rows as columns or fewer: (n, rows, columns) in the working format."""

    def __init__(self, updates: list[Tensor], dtype: torch.dtype) -> None:
        self._updates = updates
        wide = updates[0] if updates[0].shape[0] <= updates[0].shape[1] else updates[0].mT
        self._stacked = torch.empty(len(updates), *wide.shape, dtype=dtype, device=wide.device)

    def orthogonalise(self) -> None:
        """Replaces every update by the nearest orthogonal matrix, scaled by shape."""
        for row, update in zip(self._stacked, self._updates, strict=True):
            row.copy_(update if update.shape == row.shape else update.mT)
        for row, update in zip(orthogonalise(self._stacked), self._updates, strict=True):
            rows, columns = update.shape
            update.copy_(row if update.shape == row.shape else row.mT)
            if rows > columns:
                update.mul_((rows / columns) ** 0.5)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Roughly the nearest matrices with all singular values 1 (between 0.7 and 1.2): (n, rows, columns) to the same."""
    a, b, c = _QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def lr_scale(progress: float, spec: TrainingSpec) -> float:
    """Fraction of the peak rate at ``progress`` (0 to 1): linear warm-up, flat, linear cool-down to zero."""
    warm = (progress + 1e-3) / spec.warmup_frac if spec.warmup_frac else 1.0
    cool = (1 - progress) / spec.cooldown_frac if spec.cooldown_frac else 1.0
    return max(0.0, min(1.0, warm, cool))


def _norm_of(norms: list[Tensor]) -> Tensor:
    """The norm of all parts together."""
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


def _by_shape(flat: FlatWeights, storage: Tensor) -> list[list[Tensor]]:
    """Views of the matrices in ``storage``, those of one shape or its transpose together."""
    shapes: dict[tuple[int, ...], list[Tensor]] = {}
    for _, view in flat.views_in(flat.matrices, storage):
        shapes.setdefault(tuple(sorted(view.shape)), []).append(view)
    return list(shapes.values())
