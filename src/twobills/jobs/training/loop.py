"""The training loop: steps until the planned tokens are done, or until the time that the plan allows is over.

Every step's time, tokens, FLOPs and bytes go to the meter. FLOPs and bytes are those of the kernels that ran, counted
on the first step and, as every step has the same shapes, taken for each. Where time runs short, the learning rate
still falls to zero: progress is the larger of the fractions of tokens and of time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from twobills.errors import TwobillsError
from twobills.jobs.data.tokens import Batches
from twobills.jobs.device import Device, synchronise
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.optimizer import lr_scale
from twobills.jobs.training.step import TrainingStep
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
        self.network, self.spec, self._device = network, spec, device
        self._step = TrainingStep(network, spec, device)
        self.attend = self._step.attend

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
                loss = self._step(batches[step], lr_scale=lr_scale(progress, spec)).loss
                synchronise(self._device)
                tally.add(tokens=spec.tokens_per_step, flops=self._step.flops, bytes=self._step.bytes)
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
