"""What a training run was told to do: decided once, before its first step, kept on disk, repeated by a resume.

Nothing here is decided again when a run is gone on with: not the size, the number of steps or the number format, and
not the forecast that the bill is held against.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from twobills.counts.flops import train_flops_per_token
from twobills.flows.job_data import AnyCorpus, fitted_job
from twobills.flows.machine import FoundMachine
from twobills.money.bill import Bill
from twobills.plan.interval import Interval
from twobills.specs.job import HOW_KEYS, TrainingJob
from twobills.specs.model import ModelSpec
from twobills.specs.training import TrainingSpec
from twobills.usage import Phase, PhaseUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTask:
    """A plan, ready to be carried out on this machine."""

    job: TrainingJob
    corpus: AnyCorpus
    found: FoundMachine
    model: ModelSpec
    training: TrainingSpec
    predicted: Bill
    total_usd: Interval
    step_s: float
    """Forecast of one step."""
    step_flops: float
    peak_flops_per_s: float
    """The denominator of MFU."""
    plan: Mapping[str, Any]
    """The plan as plain JSON, as it was shown and as the ledger has it."""
    machine: Mapping[str, Any]
    """What was measured, as plain JSON."""
    max_s: float = math.inf
    """Seconds after which training stops whatever is left; only a run that nobody resumes has such an end."""

    def mfu(self, tokens_per_s: float) -> float:
        """Model FLOP/s at this speed over the machine's peak."""
        return train_flops_per_token(self.model, self.training.seq_len) * tokens_per_s / self.peak_flops_per_s

    @property
    def foreseen_step(self) -> PhaseUsage:
        """What a step should use."""
        chip_s = self.step_s * self.found.device.n_chips
        return PhaseUsage(tokens=self.training.tokens_per_step, flops=self.step_flops, chip_s=chip_s)

    @property
    def foreseen_evaluation(self) -> PhaseUsage:
        """What measuring quality once should use."""
        return self.predicted.line(Phase.EVALUATE).usage.scaled(1 / n_evaluations(self.job, self.training.n_steps))

    def to_json(self) -> dict[str, Any]:
        """What a resume needs, as plain JSON."""
        return {
            "model": msgspec.to_builtins(self.model),
            "training": msgspec.to_builtins(self.training),
            "predicted": self.predicted.to_json(),
            "total_usd": self.total_usd.to_json(),
            "step_s": self.step_s,
            "step_flops": self.step_flops,
            "peak_flops_per_s": self.peak_flops_per_s,
            "plan": dict(self.plan),
            "machine": dict(self.machine),
        }


def task_from_json(
    document: Mapping[str, Any], job: TrainingJob, corpus: AnyCorpus, found: FoundMachine
) -> TrainingTask:
    """The task that ``to_json`` wrote. How it is carried out (``HOW_KEYS``) is as ``job`` says now."""
    how = {key: job.training[key] for key in HOW_KEYS if key in job.training}
    rest = {key: document[key] for key in ("step_s", "step_flops", "peak_flops_per_s", "plan", "machine")}
    return TrainingTask(
        job=fitted_job(job, corpus),
        corpus=corpus,
        found=found,
        model=msgspec.convert(document["model"], ModelSpec),
        training=replace(msgspec.convert(document["training"], TrainingSpec), **how),
        predicted=Bill.from_json(document["predicted"]),
        total_usd=Interval(**document["total_usd"]),
        **rest,
    )


def n_evaluations(job: TrainingJob, n_steps: int) -> int:
    """How often quality is measured: at intervals if the job wants that, and after the last step."""
    return 1 + ((n_steps - 1) // job.evaluate_every if job.evaluate_every else 0)
