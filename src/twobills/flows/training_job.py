"""The first job from beginning to end: corpus, plan, tokenizer, training, held-out quality, frozen folder.

``plan_job`` decides everything before anything is trained; ``run_job`` carries it out under the meter. The meter
starts with the tokenizer, so preparing the data is on the training bill.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer

from twobills.counts.flops import MFU_CONVENTION
from twobills.counts.params import count_params
from twobills.flows.accounts import readings
from twobills.flows.listener import Listener, TrainingProgress
from twobills.flows.machine import MeasuredMachine, find_machine, machine_to_json, measure_machine
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.corpus import Corpus
from twobills.jobs.training.evaluate import bits_per_byte, evaluate, gzip_bits_per_byte, xz_bits_per_byte
from twobills.jobs.training.freeze import freeze
from twobills.jobs.training.loop import Step, Trainer
from twobills.jobs.training.tokens import Batches, TokenArray, encode_documents, train_tokenizer
from twobills.laws.forms import Law
from twobills.laws.published import published_law
from twobills.ledger.store import Ledger
from twobills.meter.meter import Meter
from twobills.money.bill import price
from twobills.perf.step import train_step
from twobills.plan.size import Choice, choose_size
from twobills.plan.training import (
    PREPARE_BYTES_PER_S,
    TrainingPlan,
    mfu,
    plan_training,
    training_plan_to_json,
)
from twobills.specs.job import TrainingJob
from twobills.specs.model import ModelSpec
from twobills.specs.training import TrainingSpec
from twobills.usage import Job, Phase

LAW = "besiroglu-2024"
BYTES_PER_TOKEN = 3.3
"""Assumed before the tokenizer exists: bytes of source text per token of a vocabulary of some thousands."""
OVERTIME = 1.3
"""Training stops at this multiple of its planned time, done or not."""
CURVE_POINTS = 300
SECONDS_PER_MINUTE = 60.0


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


class TrainedModel(NamedTuple):
    """A frozen model, and what its training showed."""

    digest: str
    model: ModelSpec
    data: dict[str, Any]
    training: dict[str, Any]
    quality: dict[str, Any]
    heldout_tokens: list[TokenArray]


def measure_and_plan(job: TrainingJob, corpus: Corpus, listener: Listener) -> PlannedJob:
    """Measures this machine, then plans; tells the listener what the machine is."""
    listener.stage("Measuring this machine: products per number format, memory, power counters")
    planned = plan_job(job, corpus, measure_machine(find_machine(job.usd_per_chip_hour)))
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


def run_job(planned: PlannedJob, ledger: Ledger, run_id: str, listener: Listener) -> TrainedModel:
    """Carries the plan out. What was spent is in the ledger however it ends."""
    found = planned.machine.found
    compressors = {  # what the model is compared with is not a part of what the model costs
        "gzip_bits_per_byte": gzip_bits_per_byte(planned.corpus.heldout),
        "xz_bits_per_byte": xz_bits_per_byte(planned.corpus.heldout),
    }
    meter = Meter(Job.TRAINING, n_chips=found.device.n_chips, power=found.power_reader(), resting=Phase.PRETRAIN)
    with readings(ledger, run_id, meter, found.rates):
        return _Training(planned, run_id, meter, listener, compressors).run()


class _Training:
    """One run of one plan."""

    def __init__(
        self,
        planned: PlannedJob,
        run_id: str,
        meter: Meter,
        listener: Listener,
        compressors: Mapping[str, float],
    ) -> None:
        self._planned, self._meter, self._listener = planned, meter, listener
        self._run_id, self._compressors = run_id, compressors
        self._corpus, self._spec = planned.corpus, planned.plan.training
        self._rates = planned.machine.found.rates
        self._n_training_tokens = 0

    def run(self) -> TrainedModel:
        listener, spec = self._listener, self._spec
        listener.stage("Learning a vocabulary from the training documents and encoding them")
        with self._meter.phase(Phase.PRETRAIN):
            tokenizer, tokens, heldout = self._prepare()
        data = self._data_to_json(heldout)
        listener.found("data", data)
        network = Decoder(self._planned.plan.model)
        network.initialise(torch.Generator().manual_seed(spec.seed))
        trainer = Trainer(network, spec, self._planned.machine.found.device)
        listener.stage(f"Training {self._planned.plan.model.name}")
        steps = self._train(trainer, tokens)
        listener.stage("Measuring quality on text it has never seen")
        quality = self._evaluate(trainer, heldout)
        listener.found("quality", quality)
        self._meter.rest()
        bill = price(self._meter.usage(), self._rates)
        training = self._training_to_json(steps)
        lineage = {
            "run_id": self._run_id,
            "billed_until": "freezing, whose seconds the ledger adds",
            "data": data,
            "training": {k: v for k, v in training.items() if k != "curve"},
            "quality": quality,
        }
        digest = freeze(network, tokenizer, self._planned.job.out, lineage=lineage, bill=bill.to_json())
        return TrainedModel(digest, network.spec, data, training, quality, heldout)

    def _prepare(self) -> tuple[Tokenizer, TokenArray, list[TokenArray]]:
        corpus = self._corpus
        tokenizer = train_tokenizer(corpus.texts(corpus.training), self._planned.job.vocab_size)
        tokens = np.concatenate(encode_documents(tokenizer, corpus.texts(corpus.training)))
        self._n_training_tokens = len(tokens)
        return tokenizer, tokens, encode_documents(tokenizer, corpus.texts(corpus.heldout))

    def _train(self, trainer: Trainer, tokens: TokenArray) -> list[Step]:
        spec, steps = self._spec, []
        batches = Batches(tokens, batch_size=spec.batch_size, seq_len=spec.seq_len, seed=spec.seed)
        for step in trainer.run(batches, self._meter, max_s=self._planned.max_s):
            steps.append(step)
            self._listener.training(self._progress(step))
        return steps

    def _progress(self, step: Step) -> TrainingProgress:
        tokens_per_s = step.n_tokens / step.elapsed_s
        plan = self._planned.plan
        return TrainingProgress(
            step=step.step,
            n_steps=self._spec.n_steps,
            loss=step.loss,
            tokens_per_s=tokens_per_s,
            mfu=mfu(plan.model, self._spec, plan.machine, tokens_per_s),
            usd=price(self._meter.usage(), self._rates).total_usd,
            remaining_s=step.elapsed_s * (1 / step.progress - 1),
            progress=step.progress,
        )

    def _evaluate(self, trainer: Trainer, heldout: list[TokenArray]) -> dict[str, Any]:
        spec = self._spec
        with self._meter.phase(Phase.EVALUATE) as tally:
            result = evaluate(
                trainer.network,
                heldout,
                batch_size=spec.batch_size,
                seq_len=spec.seq_len,
                attend=trainer.attend,
            )
            tally.add(tokens=result.n_tokens, flops=result.flops, bytes=result.bytes)
        return {
            "heldout_bits_per_byte": bits_per_byte(result.nats, self._corpus.heldout_bytes),
            "heldout_nats_per_token": result.nats / result.n_tokens,
            **self._compressors,
        }

    def _data_to_json(self, heldout: list[TokenArray]) -> dict[str, Any]:
        corpus = self._corpus
        return {
            "name": corpus.name,
            "encoding": corpus.encoding,
            "n_documents": len(corpus.training) + len(corpus.heldout),
            "n_heldout_documents": len(corpus.heldout),
            "training_bytes": corpus.training_bytes,
            "heldout_bytes": corpus.heldout_bytes,
            "n_training_tokens": self._n_training_tokens,
            "n_heldout_tokens": sum(len(tokens) for tokens in heldout),
            "split": corpus.split,
            "heldout_documents": [document.name for document in corpus.heldout],
        }

    def _training_to_json(self, steps: list[Step]) -> dict[str, Any]:
        last, spec, plan = steps[-1], self._spec, self._planned.plan
        tokens_per_s = last.n_tokens / last.elapsed_s
        return {
            "n_steps": last.step,
            "planned_steps": spec.n_steps,
            "n_tokens": last.n_tokens,
            "epochs": last.n_tokens / self._n_training_tokens,
            "wall_s": last.elapsed_s,
            "tokens_per_s": tokens_per_s,
            "mfu": mfu(plan.model, spec, plan.machine, tokens_per_s),
            "mfu_convention": MFU_CONVENTION,
            "curve": _thin(steps),
        }


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


def _thin(steps: list[Step]) -> list[dict[str, float]]:
    """At most ``CURVE_POINTS`` points, each the mean loss of its steps."""
    width = -(-len(steps) // CURVE_POINTS)
    groups = [steps[i : i + width] for i in range(0, len(steps), width)]
    return [
        {
            "step": group[-1].step,
            "n_tokens": group[-1].n_tokens,
            "elapsed_s": group[-1].elapsed_s,
            "loss": sum(step.loss for step in group) / len(group),
        }
        for group in groups
    ]
