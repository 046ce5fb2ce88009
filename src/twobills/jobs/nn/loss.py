"""Cross-entropy in chunks of tokens, so that the logits of a batch never exist whole, forward and backward at once.

The logits of a chunk are made, turned into their own gradient in fp32, and used up before the next chunk's are made:
one product forward and two backward, as without chunks, and no recomputation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from twobills.counts.training_memory import chunk_tokens
from twobills.jobs.data.batch import IGNORED


def chunked_cross_entropy(hidden_NM: Tensor, weight_VM: Tensor, targets_N: Tensor, n_targets: int) -> Tensor:
    """Loss summed over the predicted targets and divided by ``n_targets``, for autograd."""
    return _ChunkedCrossEntropy.apply(hidden_NM, weight_VM, targets_N, n_targets)  # type: ignore[no-untyped-call, no-any-return]


class HeadLoss(NamedTuple):
    """The loss of a batch, and where it comes from."""

    loss: Tensor
    """Summed over the predicted targets and divided by ``n_targets``, nats."""
    grad_hidden: Tensor


def head_loss(hidden_NM: Tensor, weight_VM: Tensor, targets_N: Tensor, n_targets: int, into: Tensor) -> HeadLoss:
    """Loss and gradients; the head's is added to ``into``."""
    grad_hidden = torch.empty_like(hidden_NM)
    loss = torch.zeros((), dtype=_wide(hidden_NM.dtype), device=hidden_NM.device)
    size = chunk_tokens(len(weight_VM))
    for start in range(0, len(hidden_NM), size):
        hidden, targets = hidden_NM[start : start + size], targets_N[start : start + size]
        chunk_loss, grad_logits = logits_gradient(torch.mm(hidden, weight_VM.t()), targets, n_targets)
        loss += chunk_loss
        torch.mm(grad_logits, weight_VM, out=grad_hidden[start : start + size])
        into.addmm_(grad_logits.t(), hidden)
    return HeadLoss(loss, grad_hidden)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Gradients are made with the loss, so its own gradient only scales them."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, n_targets: int) -> Tensor:
        grad_weight = torch.zeros_like(weight)
        found = head_loss(hidden.detach(), weight.detach(), targets, n_targets, grad_weight)
        ctx.save_for_backward(found.grad_hidden, grad_weight)
        return found.loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = grads[0].to(grad_hidden.dtype)
        return grad_hidden * scale, grad_weight * scale, None, None


def logits_gradient(logits_NV: Tensor, targets_N: Tensor, n_targets: int) -> tuple[Tensor, Tensor]:
    """The chunk's share of the mean loss, and the gradient of its logits in their format."""
    predicted = targets_N != IGNORED
    targets_N1 = targets_N.clamp(min=0)[:, None]
    log_p = torch.log_softmax(logits_NV.to(_wide(logits_NV.dtype)), dim=-1)
    weight_N1 = (predicted / n_targets)[:, None].to(log_p.dtype)
    loss = -(log_p.gather(1, targets_N1) * weight_N1).sum()
    grad = log_p.exp_().scatter_add_(1, targets_N1, torch.full_like(weight_N1, -1.0)).mul_(weight_N1)
    return loss, grad.to(logits_NV.dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
