"""A training job before its first step: the machine measured, size and tokens chosen, the bill predicted.

Everything is decided here, from counting and from rates of single operations; nothing has been trained yet.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from twobills.counts.params import count_params
from twobills.flows.listener import Listener
from twobills.flows.machine import MeasuredMachine, find_machine, machine_to_json, measure_machine
from twobills.jobs.data.corpus import Corpus
from twobills.laws.forms import Law
from twobills.laws.published import published_law
from twobills.ledger.store import Ledger
from twobills.perf.step import train_step
from twobills.plan.local import PREPARE_BYTES_PER_S, TrainingPlan, plan_training, training_plan_to_json
from twobills.plan.size import Choice, choose_size
from twobills.specs.job import TrainingJob
from twobills.specs.model import ModelSpec
from twobills.specs.training import TrainingSpec
from twobills.units import SECONDS_PER_MINUTE

LAW = "besiroglu-2024"
BYTES_PER_TOKEN = 3.3
"""Assumed before the tokenizer exists: bytes of source text per token of a vocabulary of some thousands."""
OVERTIME = 1.3
"""Training stops at this multiple of its planned time, done or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """Everything that was decided before the first step."""

    job: TrainingJob
    corpus: Corpus
    machine: MeasuredMachine
    machine_document: dict[str, Any]
    """What was measured, as plain JSON."""
    plan: TrainingPlan
    choices: list[Choice]
    """The sizes that were weighed, the best first; empty if the job named the shape."""
    law: Law

    @property
    def max_s(self) -> float:
        """Seconds after which training stops whatever is left."""
        return OVERTIME * self.plan.step.seconds * self.plan.training.n_steps


def measure_and_plan(job: TrainingJob, corpus: Corpus, ledger: Ledger, listener: Listener) -> PlannedJob:
    """Measures this machine, then plans by what its earlier runs taught; tells the listener what the machine is."""
    if job.out.exists():
        listener.stage(f"{job.out} holds an earlier model, which this one will replace")
    if corpus.encoding != "utf-8":
        listener.stage("Not all of the data is UTF-8 text, so it is read byte by byte")
    listener.stage("Measuring this machine: products per number format, memory, power counters")
    planned = plan_job(job, corpus, measure_machine(find_machine(job.usd_per_chip_hour), ledger))
    listener.found("machine", planned.machine_document)
    return planned


def plan_job(job: TrainingJob, corpus: Corpus, machine: MeasuredMachine) -> PlannedJob:
    """Chooses size and tokens, and predicts the bill."""
    law, choices = published_law(LAW), []
    if job.model:
        model = _named_shape(job)
    else:
        choices = choose_size(
            machine.spec,
            law,
            train_s=SECONDS_PER_MINUTE * job.minutes,
            n_unique_tokens=corpus.training_bytes / BYTES_PER_TOKEN,
            vocab_size=job.vocab_size,
            batch_size=job.batch_size,
            seq_len=job.seq_len,
            dtype=machine.dtype,
        )
        model = choices[0].model
    step = train_step(model, machine.spec, batch_size=job.batch_size, seq_len=job.seq_len, dtype=machine.dtype)
    training = TrainingSpec(
        n_steps=max(1, int(SECONDS_PER_MINUTE * job.minutes / step.seconds)),
        batch_size=job.batch_size,
        seq_len=job.seq_len,
        dtype=machine.dtype,
        heldout_tokens=int(corpus.heldout_bytes / BYTES_PER_TOKEN),
        seed=job.seed,
        **job.training,
    )
    corpus_bytes = corpus.training_bytes + corpus.heldout_bytes
    plan = plan_training(model, training, machine.spec, machine.found.rates, corpus_bytes=corpus_bytes)
    return PlannedJob(
        job=job,
        corpus=corpus,
        machine=machine,
        machine_document=machine_to_json(machine),
        plan=plan,
        choices=choices,
        law=law,
    )


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
        "law": {"name": planned.law.name, "extrapolated": extrapolated, "source": planned.law.source},
        "assumed": {"bytes_per_token": BYTES_PER_TOKEN, "prepare_bytes_per_s": PREPARE_BYTES_PER_S},
    }


def model_to_json(model: ModelSpec) -> dict[str, Any]:
    """The shape and its parameter count, as plain JSON."""
    return {**asdict(model), "n_params": count_params(model).total}


def _named_shape(job: TrainingJob) -> ModelSpec:
    shape = job.model
    return ModelSpec(
        name=f"d{shape['d_model']}-l{shape['n_layers']}",
        n_layers=shape["n_layers"],
        d_model=shape["d_model"],
        n_heads=shape["n_heads"],
        n_kv_heads=shape["n_kv_heads"],
        d_head=shape.get("d_head", shape["d_model"] // max(1, shape["n_heads"])),
        d_ff=shape["d_ff"],
        vocab_size=job.vocab_size,
        max_seq_len=job.seq_len,
        tied_embeddings=True,
    )
