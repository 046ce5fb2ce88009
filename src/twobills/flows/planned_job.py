"""A training job before its first step: the machine measured, size and tokens chosen, the bill predicted.

Everything is decided here, from counting and from rates of single operations; nothing has been trained yet.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from twobills.counts.params import count_params
from twobills.counts.threads import useful_threads
from twobills.flows.job_data import (
    AnyCorpus,
    bytes_per_token,
    bytes_to_prepare,
    fitted_job,
    foreseen_epochs,
    heldout_tokens,
    most_steps,
    plan_note,
    vocab_size,
)
from twobills.flows.listener import Listener
from twobills.flows.machine import FoundMachine, MeasuredMachine, find_machine, machine_to_json, measure_machine
from twobills.flows.training_task import TrainingTask, n_evaluations
from twobills.jobs.device import usable_cores
from twobills.laws.forms import Law
from twobills.laws.published import published_law
from twobills.ledger.store import Ledger
from twobills.meter.clock import process_age_s
from twobills.perf.step import StepForecast, train_step
from twobills.plan.local import (
    PREPARE_BYTES_PER_S,
    TrainingPlan,
    peak_flops_per_s,
    plan_training,
    training_plan_to_json,
)
from twobills.plan.size_here import Choice, choose_size
from twobills.specs.data import Modality
from twobills.specs.dtype import DType
from twobills.specs.job import TrainingJob
from twobills.specs.job_shape import model_of_shape
from twobills.specs.model import ModelSpec
from twobills.specs.training import TrainingSpec
from twobills.units import SECONDS_PER_MINUTE

LAW = "besiroglu-2024"
OVERTIME = 1.3
"""Training that cannot be gone on with stops at this multiple of its planned time, done or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """Everything that was decided before the first step."""

    job: TrainingJob
    corpus: AnyCorpus
    machine: MeasuredMachine
    machine_document: dict[str, Any]
    """What was measured, as plain JSON."""
    plan: TrainingPlan
    choices: list[Choice]
    """The sizes that were weighed, the best first; empty if the job named the shape."""
    law: Law

    @property
    def max_s(self) -> float:
        """Seconds after which training stops whatever is left, where it cannot be gone on with."""
        planned_s = self.plan.step.seconds * self.plan.training.n_steps
        if self.job.steps or self.job.tokens:
            return OVERTIME * planned_s
        return OVERTIME * max(planned_s, SECONDS_PER_MINUTE * self.job.minutes)  # steps may end before the minutes do

    def task(self, *, max_s: float = math.inf) -> TrainingTask:
        """What is to be carried out."""
        plan = self.plan
        return TrainingTask(
            job=self.job,
            corpus=self.corpus,
            found=self.machine.found,
            model=plan.model,
            training=plan.training,
            predicted=plan.bill,
            total_usd=plan.total_usd,
            step_s=plan.step.seconds,
            step_flops=plan.step.flops,
            peak_flops_per_s=peak_flops_per_s(plan.machine, plan.training),
            plan=planned_job_to_json(self),
            machine=self.machine_document,
            max_s=max_s,
        )


def measure_and_plan(
    job: TrainingJob,
    corpus: AnyCorpus,
    ledger: Ledger,
    listener: Listener,
    *,
    found: FoundMachine | None = None,
    metered_since_start: bool = False,
) -> PlannedJob:
    """Measures this machine, or that which was ``found``, then plans by what its earlier runs taught.

    The listener is told what the machine is.
    Where the process is metered from its start, what has passed until the plan is made belongs to the plan.
    """
    if job.out.exists():
        listener.stage(f"{job.out} holds an earlier model, which this one will replace")
    if corpus.encoding != "utf-8" and job.data.modality is Modality.TEXT:
        listener.stage("Not all of the data is UTF-8 text; what is not is read as one character per byte")
    listener.stage("Measuring this machine: products per number format, memory, power counters")
    machine = measure_machine(found or find_machine(job.usd_per_chip_hour), ledger)
    planned = plan_job(job, corpus, machine, spent_s=process_age_s() if metered_since_start else 0.0)
    listener.found("machine", planned.machine_document)
    return planned


def plan_job(job: TrainingJob, corpus: AnyCorpus, machine: MeasuredMachine, *, spent_s: float = 0.0) -> PlannedJob:
    """Chooses size and tokens, and predicts the bill, of which ``spent_s`` have passed."""
    job, law, choices = fitted_job(job, corpus), published_law(LAW), []
    dtype = DType(job.dtype) if job.dtype else machine.dtype
    if job.model:
        model = model_of_shape(job.model, vocab_size=vocab_size(job), max_seq_len=job.seq_len)
    else:
        choices = choose_size(
            machine.spec,
            law,
            train_s=SECONDS_PER_MINUTE * job.minutes,
            n_unique_tokens=corpus.training_bytes / bytes_per_token(job),
            vocab_size=vocab_size(job),
            batch_size=job.batch_size,
            seq_len=job.seq_len,
            dtype=dtype,
        )
        model = choices[0].model
    step = train_step(
        model,
        machine.spec,
        batch_size=job.batch_size,
        seq_len=job.seq_len,
        dtype=dtype,
        accumulate=job.training.get("accumulate", 1),
        optimizer=job.training.get("optimizer", "muon"),
    )
    n_steps = _n_steps(job, corpus, step)
    training = TrainingSpec(
        n_steps=n_steps,
        batch_size=job.batch_size,
        seq_len=job.seq_len,
        dtype=dtype,
        heldout_tokens=int(n_evaluations(job, n_steps) * heldout_tokens(job, corpus)),
        seed=job.seed,
        **job.training,
    )
    corpus_bytes = bytes_to_prepare(job, corpus)
    plan = plan_training(model, training, machine.spec, machine.found.rates, corpus_bytes=corpus_bytes, spent_s=spent_s)
    return PlannedJob(
        job=job,
        corpus=corpus,
        machine=machine,
        machine_document=machine_to_json(machine),
        plan=plan,
        choices=choices,
        law=law,
    )


def job_cores(job: TrainingJob, corpus: AnyCorpus) -> int | None:
    """Cores that training can use on a CPU, where the job's shape is known before the machine is; None for all.

    Of text it is all: a vocabulary is learnt by all of them.
    """
    job = fitted_job(job, corpus)
    if not job.model or job.data.modality is Modality.TEXT:
        return None
    model = model_of_shape(job.model, vocab_size=vocab_size(job), max_seq_len=job.seq_len)
    optimizer = job.training.get("optimizer", "muon")
    size = {"batch_size": job.batch_size, "seq_len": job.seq_len, "accumulate": job.training.get("accumulate", 1)}
    return useful_threads(model, usable_cores(), **size, optimizer=optimizer)


def _n_steps(job: TrainingJob, corpus: AnyCorpus, step: StepForecast) -> int:
    """Optimiser steps: as asked, or as many as the tokens or the minutes make."""
    if job.steps:
        return job.steps
    if job.tokens:
        return int(job.tokens / (job.batch_size * job.seq_len))
    n_steps = max(1, int(SECONDS_PER_MINUTE * job.minutes / step.seconds))
    return min(n_steps, most_steps(job, corpus) or n_steps)


def planned_job_to_json(planned: PlannedJob) -> dict[str, Any]:
    """The plan, the sizes that were weighed and the law that weighed them, as plain JSON."""
    sizes = [
        {
            "name": choice.model.name,
            "n_params": choice.n_params,
            "n_tokens": choice.n_tokens,
            "law_loss": choice.law_loss,
            "chosen": choice.model == planned.plan.model,
        }
        for choice in planned.choices
    ]
    extrapolated = not planned.law.in_range(count_params(planned.plan.model).total)
    return {
        "training": training_plan_to_json(planned.plan),
        "model": model_to_json(planned.plan.model),
        "sizes": sizes,
        "note": plan_note(planned.job, planned.corpus, planned.plan.model, planned.plan.training.n_steps),
        "law": {"name": planned.law.name, "extrapolated": extrapolated, "source": planned.law.source},
        "sources": foreseen_epochs(planned.job, planned.corpus, planned.plan.training.n_tokens),
        "assumed": {"bytes_per_token": bytes_per_token(planned.job), "prepare_bytes_per_s": PREPARE_BYTES_PER_S},
    }


def model_to_json(model: ModelSpec) -> dict[str, Any]:
    """The shape and its parameter count, as plain JSON."""
    return {**asdict(model), "n_params": count_params(model).total}
