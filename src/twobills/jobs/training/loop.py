"""The training loop: step after step until all are done, or until the time that the plan allows is over.

Every step's time, tokens, FLOPs and bytes go to the meter. FLOPs and bytes are those of the kernels that ran, counted
on the first step and, as every step has the same shapes, taken for each. The learning rate is a function of the step
alone, so a run that is gone on with takes the same steps; only where ``max_s`` is given may time run short, and then
the rate still falls to zero: progress is the larger of the fractions of steps and of time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from twobills.errors import TwobillsError
from twobills.jobs.data.batch import Batch
from twobills.jobs.device import Device, synchronise
from twobills.jobs.nn.attention import CausalAttention
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.guard import DivergedError, SpikeGuard
from twobills.jobs.training.optimizer import lr_scale
from twobills.jobs.training.prefetch import prefetched
from twobills.jobs.training.step import Accept, StepResult, TrainingStep
from twobills.meter.clock import Clock, monotonic
from twobills.meter.meter import Meter
from twobills.specs.training import TrainingSpec
from twobills.usage import Phase


class Batches(Protocol):
    """The batch of each step."""

    def __getitem__(self, step: int, /) -> Batch: ...


class Learns(Protocol):
    """A step of training: ``TrainingStep``, or what stands for it where many processes train together."""

    attend: CausalAttention
    flops: float
    bytes: float

    def __call__(self, batch: Batch, *, lr_scale: float, accept: Accept | None = None) -> StepResult: ...

    def state(self) -> dict[str, Tensor]: ...

    def refresh(self) -> None: ...

    def whole(self) -> Decoder: ...


class Step(NamedTuple):
    """What is known after a step."""

    step: int
    """Steps done."""
    loss: float
    """Mean loss of this step's tokens, nats."""
    n_tokens: int
    """Tokens trained on so far."""
    elapsed_s: float
    """Seconds in steps so far, those before a resume included; none of what lay between them."""
    progress: float
    """0 to 1."""
    grad_norm: float = math.nan
    """Of all gradients, before clipping."""
    lr_scale: float = 1.0
    """Fraction of the peak learning rates."""
    step_s: float = math.nan
    """Seconds of this step."""
    skipped: bool = False
    """Whether its update was thrown away, its loss being a spike."""


class Trainer:
    """One network in training on one device."""

    def __init__(
        self,
        network: Decoder,
        spec: TrainingSpec,
        device: Device,
        *,
        guard: SpikeGuard | None = None,
        step: Learns | None = None,
    ) -> None:
        self.spec, self._device = spec, device
        self._guard = guard or SpikeGuard()
        self._step: Learns = step or TrainingStep(network, spec, device)
        self.attend = self._step.attend
        self.n_done, self.elapsed_s = 0, 0.0

    @property
    def network(self) -> Decoder:
        """The network as it is now, in one piece: to be evaluated or frozen before the next step."""
        return self._step.whole()

    def run(
        self,
        batches: Batches,
        meter: Meter,
        *,
        phase: Phase = Phase.PRETRAIN,
        max_s: float = math.inf,
        clock: Clock = monotonic,
    ) -> Iterator[Step]:
        """Takes the steps that are left, yielding after each. Raises TwobillsError if the loss is no longer a number.

        Between two steps the state is whole: a checkpoint may be taken.
        """
        start_s, spec, batches = clock(), self.spec, prefetched(batches, self._device)
        for step in range(self.n_done, spec.n_steps):
            begun_s = clock()
            progress = max(step / spec.n_steps, (begun_s - start_s) / max_s)
            if progress >= 1:
                return
            scale = lr_scale(progress, spec)
            with meter.phase(phase) as tally, _explained(step, spec):
                result = self._step(batches[step], lr_scale=scale, accept=self._guard)
                synchronise(self._device)
                tally.add(tokens=spec.tokens_per_step, flops=self._step.flops, bytes=self._step.bytes)
            ended_s = clock()
            self.n_done, self.elapsed_s = step + 1, self.elapsed_s + ended_s - begun_s
            yield Step(
                step=self.n_done,
                loss=result.loss,
                n_tokens=self.n_done * spec.tokens_per_step,
                elapsed_s=self.elapsed_s,
                progress=min(1.0, max(self.n_done / spec.n_steps, (ended_s - start_s) / max_s)),
                grad_norm=result.grad_norm,
                lr_scale=scale,
                step_s=ended_s - begun_s,
                skipped=self._guard.skipped,
            )

    def tensors(self) -> dict[str, Tensor]:
        """The state that a checkpoint keeps as tensors: live views."""
        return self._step.state()

    def notes(self) -> dict[str, Any]:
        """The state that a checkpoint keeps beside them, as plain JSON."""
        return {
            "elapsed_s": self.elapsed_s,
            "step_flops": self._step.flops,
            "step_bytes": self._step.bytes,
            "losses": self._guard.state(),
            "n_threads": torch.get_num_threads(),
            "choices": dict(getattr(self._step, "choices", {})),
        }

    def go_on(self, n_done: int, notes: Mapping[str, Any]) -> None:
        """Goes on after ``n_done`` steps, the tensors having been copied into ``tensors()``."""
        as_before = True
        if isinstance(self._step, TrainingStep) and notes.get("choices"):
            self._step.choose(notes["choices"])
            as_before = self._step.choices == notes["choices"]
        self._step.refresh()
        self.n_done, self.elapsed_s = n_done, notes["elapsed_s"]
        if (
            as_before
        ):  # counted by the process that took the first step: counting again would run this one under a counter
            self._step.flops, self._step.bytes = notes["step_flops"], notes["step_bytes"]
        self._guard.restore(notes["losses"])


@contextmanager
def _explained(step: int, spec: TrainingSpec) -> Iterator[None]:
    """Says at which step something went wrong, and what to do about it."""
    try:
        yield
    except DivergedError as error:
        lower = f"lower lr={spec.lr:g} or muon_lr={spec.muon_lr:g}"
        raise DivergedError(f"step {step}: {error}; {lower}, or look at the batch") from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        parts = 2 * spec.accumulate
        less = (
            f"set training.accumulate={parts}, which runs the same batch in {parts} parts"
            if parts <= spec.batch_size
            else "take a smaller model or seq_len"
        )
        raise OutOfMemoryError(
            f"step {step}: out of memory with batch_size={spec.batch_size} in {spec.accumulate} "
            f"part{'s' if spec.accumulate > 1 else ''}; {less}"
        ) from None


class OutOfMemoryError(TwobillsError):
    """A step did not fit."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: a GPU's, or the machine's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)
