"""The training loop: steps until the planned tokens are done, or until the time that the plan allows is over.

Every step's time, tokens, FLOPs and bytes go to the meter. FLOPs and bytes are those of the kernels that ran, counted
on the first step and, as every step has the same shapes, taken for each. Where time runs short, the learning rate
still falls to zero: progress is the larger of the fractions of tokens and of time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F

from twobills.errors import TwobillsError
from twobills.jobs.data.tokens import Batches
from twobills.jobs.device import TORCH_DTYPES, Device, synchronise
from twobills.jobs.nn.attention import CausalAttention
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.profile import CountBytes, count_flops
from twobills.jobs.training.optimizer import Optimizer, lr_scale
from twobills.meter.clock import Clock, monotonic
from twobills.meter.meter import Meter
from twobills.specs.training import TrainingSpec
from twobills.usage import Phase


class Step(NamedTuple):
    """What is known after a step."""

    step: int
    """Steps done."""
    loss: float
    """Mean loss of this step's tokens, nats."""
    n_tokens: int
    """Tokens trained on so far."""
    elapsed_s: float
    progress: float
    """0 to 1."""


class Trainer:
    """One network in training on one device."""

    def __init__(self, network: Decoder, spec: TrainingSpec, device: Device) -> None:
        self.network, self.spec, self._device = network.to(device.torch_device), spec, device
        dtype = TORCH_DTYPES[spec.dtype]
        self._optimizer = Optimizer(network, spec, dtype)
        self.attend = CausalAttention(spec.seq_len, device.torch_device, dtype)
        self._positions = torch.arange(spec.seq_len, device=device.torch_device)
        self._flops_per_step = self._bytes_per_step = 0.0

    def run(
        self, batches: Batches, meter: Meter, *, max_s: float = math.inf, clock: Clock = monotonic
    ) -> Iterator[Step]:
        """Trains, yielding after every step. Raises TwobillsError if the loss is no longer a number."""
        start_s, spec = clock(), self.spec
        for step in range(spec.n_steps):
            progress = max(step / spec.n_steps, (clock() - start_s) / max_s)
            if progress >= 1:
                return
            with meter.phase(Phase.PRETRAIN) as tally:
                batch = batches[step]
                loss = self._step(batch.inputs, batch.targets, scale=lr_scale(progress, spec))
                synchronise(self._device)
                tally.add(tokens=spec.tokens_per_step, flops=self._flops_per_step, bytes=self._bytes_per_step)
            if not math.isfinite(loss):
                raise TwobillsError(f"step {step}: the loss is {loss}; lower lr={spec.lr} or muon_lr={spec.muon_lr}")
            done = step + 1
            elapsed_s = clock() - start_s
            yield Step(
                done,
                loss,
                done * spec.tokens_per_step,
                elapsed_s,
                min(1.0, max(done / spec.n_steps, elapsed_s / max_s)),
            )

    def _step(self, inputs: torch.Tensor, targets: torch.Tensor, *, scale: float) -> float:
        if self._flops_per_step:
            return self._forward_backward_update(inputs, targets, scale)
        with CountBytes() as counted, count_flops() as counter:
            loss = self._forward_backward_update(inputs, targets, scale)
        self._flops_per_step, self._bytes_per_step = float(counter.get_total_flops()), float(counted.total)
        return loss

    def _forward_backward_update(self, inputs: torch.Tensor, targets: torch.Tensor, scale: float) -> float:
        device = self._device.torch_device
        hidden = self.network.hidden(inputs.to(device), self._positions, self.attend)
        loss = F.cross_entropy(self.network.logits(hidden).flatten(0, 1), targets.to(device).flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step(scale)
        return loss.item()
