"""One training step: forward, loss, backward, update, on one device; the only way in which a network is trained.

The loss is the mean over all predicted targets of the whole batch, however the batch is cut. On a CPU the passes are
written out by hand, elsewhere they are autograd's. What a step executes is counted on the first one, which PyTorch
never compiles, and, as every step has the same shapes, holds for all; kernels of our own say what they execute. How
the step runs (``choices``) is decided once, so that a run that is gone on with can run the same way, to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from twobills.jobs.allocator import keep_memory
from twobills.jobs.data.batch import Batch
from twobills.jobs.device import TORCH_DTYPES, Device
from twobills.jobs.native.kernels import Work
from twobills.jobs.native.layer import NativeLayer, runs_natively
from twobills.jobs.nn.attention import CausalAttention
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.profile import CountBytes, count_flops
from twobills.jobs.training.choices import choose, choose_again
from twobills.jobs.training.optimizer import Optimizer
from twobills.jobs.training.passes import ByHand, Pass, ThroughAutograd
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
        if not device.on_gpu:
            keep_memory()
        self.network, self.spec, self._device = network.to(device.torch_device), spec, device
        dtype = TORCH_DTYPES[spec.dtype]
        self.optimizer = Optimizer(network, spec, dtype)
        self.attend = CausalAttention(spec.seq_len, device.torch_device, dtype)
        self._choices = choose(network.spec, spec, device)
        self._native: NativeLayer | None = None
        self._pass, self._compiled = self._make_pass(), False
        self.flops = self.bytes = 0.0
        """Executed by one step; known after the first."""

    @property
    def choices(self) -> Mapping[str, int]:
        """How the step runs: a run that is gone on with is to run the same way."""
        return self._choices

    def choose(self, choices: Mapping[str, int]) -> None:
        """Runs as another process chose to, unless ``compile`` says otherwise; by hand where its kernels do not run."""
        self._choices = choose_again(choices, self.network.spec, self.spec, self._device)
        self._pass, self._compiled = self._make_pass(), False

    def __call__(self, batch: Batch, *, lr_scale: float, accept: Accept | None = None) -> StepResult:
        """Learns from the batch at ``lr_scale`` of the peak rates, unless ``accept`` refuses its loss and norm."""
        if self.flops:
            if self._choices["compiled"] and not self._compiled:
                self._pass.compile()
                self._compiled = True
            return self._run(batch, lr_scale, accept)
        unseen = self._native.kernels.work if self._native else Work()
        with CountBytes() as counted, count_flops() as counter:
            result = self._run(batch, lr_scale, accept)
        self.flops = float(counter.get_total_flops() + unseen.flops)
        self.bytes = float(counted.total + unseen.bytes)
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
        loss = self._pass(batch, batch.n_targets)
        judge = None if accept is None else lambda norm: accept(loss.item(), norm.item())
        grad_norm = self.optimizer.step(lr_scale, judge)
        return StepResult(*torch.stack((loss, grad_norm.to(loss.dtype))).tolist())

    def _make_pass(self) -> Pass:
        if self._device.on_gpu:
            return ThroughAutograd(self.network, self.attend, self.spec, self._device.torch_device)
        native = self._choices.get("native") and runs_natively(self.network.spec, self.spec.dtype)
        self._native = NativeLayer() if native else None
        flat, n_blocks = self.optimizer.flat, self._choices["attention_blocks"]
        return ByHand(self.network, flat, self.spec, n_blocks=n_blocks, native=self._native)
