"""The first job, as it was planned: tokenizer, training, held-out quality, frozen folder, all under the meter.

The meter starts with the tokenizer, so preparing the data is on the training bill.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer

from twobills.counts.flops import MFU_CONVENTION
from twobills.flows.accounts import readings
from twobills.flows.listener import Listener, TrainingProgress
from twobills.flows.planned_job import PlannedJob
from twobills.jobs.data.codec import TokenArray, train_tokenizer
from twobills.jobs.data.tokens import Batches, encode_documents
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.evaluate import bits_per_byte, evaluate, gzip_bits_per_byte, xz_bits_per_byte
from twobills.jobs.training.freeze import freeze
from twobills.jobs.training.loop import Step, Trainer
from twobills.ledger.store import Ledger
from twobills.meter.meter import Meter
from twobills.money.bill import price
from twobills.plan.local import mfu
from twobills.specs.model import ModelSpec
from twobills.usage import Job, Phase

CURVE_POINTS = 300


class TrainedModel(NamedTuple):
    """A frozen model, and what its training showed."""

    digest: str
    model: ModelSpec
    data: dict[str, Any]
    training: dict[str, Any]
    quality: dict[str, Any]
    heldout_tokens: list[TokenArray]

    @property
    def training_without_curve(self) -> dict[str, Any]:
        """Steps, tokens and seconds of the training itself, as the ledger and the model's folder keep them."""
        return _without_curve(self.training)


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
            "training": _without_curve(training),
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


def _without_curve(training: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in training.items() if key != "curve"}


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
