"""The optimiser: Muon for the layers' projections, AdamW for embedding, head and norms, fp32 masters under both.

Working weights and their gradients are views into a few flat buffers in the working format, so a step is a handful of
large calls instead of several per parameter: one fused AdamW call, and one batched Newton-Schulz iteration per shape
of projection. Muon replaces a matrix's momentum by the nearest orthogonal matrix.
Ref: Loshchilov & Hutter 2019 (AdamW); Jordan et al. 2024 (Muon: the quintic's coefficients and the scaling by shape).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from twobills.counts.operations import NEWTON_SCHULZ_STEPS
from twobills.specs.training import TrainingSpec

_QUINTIC = (3.4445, -4.7750, 2.0315)
_MOMENTUM = 0.95
_CLIP_NORM = 1.0


class Optimizer:
    """Takes over a network's parameters: casts them to the working format and keeps their fp32 masters."""

    def __init__(self, network: nn.Module, spec: TrainingSpec, dtype: torch.dtype) -> None:
        projections: dict[torch.Size, list[nn.Parameter]] = {}
        others = []
        for name, parameter in network.named_parameters():
            if parameter.dim() == 2 and ".layers." in name:
                projections.setdefault(parameter.shape, []).append(parameter)
            else:
                others.append(parameter)
        self._adam = _FlatAdamW(others, spec, dtype)
        self._muon = [_Muon(parameters, spec, dtype) for parameters in projections.values()]

    @torch.no_grad()
    def step(self, lr_scale: float) -> None:
        """Updates the weights by their gradients, at ``lr_scale`` of the peak rates, and zeroes the gradients."""
        self._adam.step(lr_scale)
        for group in self._muon:
            group.step(lr_scale)


class _FlatAdamW:
    def __init__(self, parameters: list[nn.Parameter], spec: TrainingSpec, dtype: torch.dtype) -> None:
        flat = torch.cat([p.detach().float().flatten() for p in parameters])
        self._work, self._lr = flat.to(dtype), spec.lr
        self._work_grad = torch.zeros_like(self._work)
        self._master = nn.Parameter(flat)
        self._master.grad = torch.zeros_like(flat)
        self._adamw = torch.optim.AdamW([self._master], betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        start = 0
        for p in parameters:
            end = start + p.numel()
            p.data, p.grad = self._work[start:end].view(p.shape), self._work_grad[start:end].view(p.shape)
            start = end

    def step(self, lr_scale: float) -> None:
        grad = self._master.grad
        assert grad is not None
        grad.copy_(self._work_grad)
        grad.mul_((_CLIP_NORM / (grad.norm() + 1e-6)).clamp(max=1.0))
        self._adamw.param_groups[0]["lr"] = self._lr * lr_scale
        self._adamw.step()
        self._work.copy_(self._master.detach())
        self._work_grad.zero_()


class _Muon:
    """All projections of one shape, stacked: (n, rows, columns)."""

    def __init__(self, parameters: list[nn.Parameter], spec: TrainingSpec, dtype: torch.dtype) -> None:
        self._master = torch.stack([p.detach().float() for p in parameters])
        self._work = self._master.to(dtype)
        self._work_grad = torch.zeros_like(self._work)
        self._momentum = torch.zeros_like(self._master)
        rows, columns = parameters[0].shape
        self._lr, self._decay = (
            spec.muon_lr * max(1.0, rows / columns) ** 0.5,
            spec.weight_decay * spec.muon_lr,
        )
        for i, p in enumerate(parameters):
            p.data, p.grad = self._work[i], self._work_grad[i]

    def step(self, lr_scale: float) -> None:
        grad = self._work_grad.float()
        self._momentum.lerp_(grad, 1 - _MOMENTUM)
        update = orthogonalise(grad.lerp(self._momentum, _MOMENTUM).to(self._work.dtype))
        self._master.mul_(1 - self._decay * lr_scale).add_(update.float(), alpha=-self._lr * lr_scale)
        self._work.copy_(self._master)
        self._work_grad.zero_()


def orthogonalise(matrices: Tensor) -> Tensor:
    """Roughly the nearest matrices with all singular values 1 (between 0.7 and 1.2): (n, rows, columns) to the same."""
    a, b, c = _QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x  # type: ignore[no-any-return]


def lr_scale(progress: float, spec: TrainingSpec) -> float:
    """Fraction of the peak rate at ``progress`` (0 to 1): linear warm-up, flat, linear cool-down to zero."""
    warm = (progress + 1e-3) / spec.warmup_frac if spec.warmup_frac else 1.0
    cool = (1 - progress) / spec.cooldown_frac if spec.cooldown_frac else 1.0
    return max(0.0, min(1.0, warm, cool))
