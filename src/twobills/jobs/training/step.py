"""One training step: forward, loss, backward, update, on one device; the only way in which a network is trained.

The loss is the mean over all predicted targets of the whole batch, however the batch is cut: ``accumulate`` parts
are run one after another, each weighted by its own targets. What a step executes is counted on the first one and, as
every step has the same shapes, holds for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from twobills.jobs.data.batch import IGNORED, Batch
from twobills.jobs.device import TORCH_DTYPES, Device
from twobills.jobs.nn.attention import CausalAttention
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.profile import CountBytes, count_flops
from twobills.jobs.training.optimizer import Optimizer
from twobills.specs.training import TrainingSpec

Accept = Callable[[float, float], bool]
"""Whether to update by a step's gradients, told its loss and the gradients' norm. Asking waits for the device."""


class StepResult(NamedTuple):
    """What a step showed."""

    loss: float
    """Mean over the predicted targets, nats."""
    grad_norm: float
    """Of all gradients, before clipping."""


class TrainingStep:
    """A network and its optimiser, ready to learn from one batch after another."""

    def __init__(self, network: Decoder, spec: TrainingSpec, device: Device) -> None:
        self.network, self.spec, self._device = network.to(device.torch_device), spec, device
        dtype = TORCH_DTYPES[spec.dtype]
        self.optimizer = Optimizer(network, spec, dtype)
        self.attend = CausalAttention(spec.seq_len, device.torch_device, dtype)
        self._positions = torch.arange(spec.seq_len, device=device.torch_device)
        self.flops = self.bytes = 0.0
        """Executed by one step; known after the first."""

    def __call__(self, batch: Batch, *, lr_scale: float, accept: Accept | None = None) -> StepResult:
        """Learns from the batch at ``lr_scale`` of the peak rates, unless ``accept`` refuses its loss and norm."""
        if self.flops:
            return self._run(batch, lr_scale, accept)
        with CountBytes() as counted, count_flops() as counter:
            result = self._run(batch, lr_scale, accept)
        self.flops, self.bytes = float(counter.get_total_flops()), float(counted.total)
        return result

    def state(self) -> dict[str, Tensor]:
        """All tensors that a resumed run needs, by name: live views, so that loading is copying into them."""
        return self.optimizer.state()

    def refresh(self) -> None:
        """Makes the working weights follow a loaded state."""
        self.optimizer.refresh()

    def whole(self) -> Decoder:
        """The network in one piece, as it is now."""
        return self.network

    def _run(self, batch: Batch, lr_scale: float, accept: Accept | None) -> StepResult:
        n_targets, n_parts = batch.n_targets, self.spec.accumulate
        loss = torch.stack([self._forward_backward(batch.rows(i, n_parts), n_targets) for i in range(n_parts)]).sum()
        judge = None if accept is None else lambda norm: accept(loss.item(), norm.item())
        grad_norm = self.optimizer.step(lr_scale, judge)
        return StepResult(*torch.stack((loss, grad_norm)).tolist())

    def _forward_backward(self, part: Batch, n_targets: int) -> Tensor:
        """This part's share of the batch's mean loss."""
        device = self._device.torch_device
        hidden = self.network.hidden(part.inputs.to(device), self._positions, self.attend)
        logits, targets = self.network.logits(hidden).flatten(0, 1), part.targets.to(device).flatten()
        loss = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum") / n_targets
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
