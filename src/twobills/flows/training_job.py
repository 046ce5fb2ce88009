"""The first job, as it was planned: tokenizer, training, held-out quality, frozen folder, all under the meter.

The meter starts with the process where its age is known, else with the tokenizer, so preparing the data is on the
training bill. A run that is gone on with takes up its tokens and the newest checkpoint, and is from there on the run
that never stopped; until then its time is ``lost``. Tokens that are taken up were not made in vain: what they took
stays on the bill as it was, even if no checkpoint followed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import torch

from twobills.counts.flops import MFU_CONVENTION, train_flops_per_token
from twobills.errors import RequestError
from twobills.flows.accounts import readings
from twobills.flows.job_data import (
    beside_the_model,
    chat_template,
    data_to_json,
    job_batches,
    measure_quality,
    prepare_tokens,
    seen_epochs,
    tokens_are_kept,
)
from twobills.flows.listener import Listener
from twobills.flows.run_account import RunAccount
from twobills.flows.run_folder import Prepared, RunFolder
from twobills.flows.saving import Saver, same_bits
from twobills.flows.training_steps import Stepping
from twobills.flows.training_task import TrainingTask
from twobills.flows.watching import curve
from twobills.jobs.data.batches import Batches
from twobills.jobs.data.codec import TokenArray
from twobills.jobs.data.tokenise import TokenSet
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.peak_memory import PeakMemory
from twobills.jobs.training.checkpoint import Checkpoint, Checkpoints
from twobills.jobs.training.freeze import freeze
from twobills.jobs.training.guard import SpikeGuard
from twobills.jobs.training.leading import LeadingCheckpoints, LeadingStep
from twobills.jobs.training.loop import Trainer
from twobills.jobs.training.step import TrainingStep
from twobills.ledger.journal import lose
from twobills.ledger.store import Ledger
from twobills.meter.clock import process_age_s
from twobills.meter.meter import Meter
from twobills.money.bill import price
from twobills.specs.model import ModelSpec
from twobills.usage import Job, Phase


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


def run_job(
    task: TrainingTask, ledger: Ledger, run_id: str, listener: Listener, folder: RunFolder | None = None
) -> TrainedModel:
    """Carries the task out. What was spent is in the ledger however it ends.

    With an open ``folder`` the run can be gone on with: checkpoints are taken, and it begins at the newest there is.
    """
    checkpoint, age_s, found, kept = None, 0.0, task.found, 0
    if folder:
        checkpoint, age_s = Checkpoints(folder.checkpoints).newest(listener.stage), process_age_s()
        if (prepared := folder.prepared()) and tokens_are_kept(task.job, task.corpus):
            kept = prepared.n_readings
        since, step = (checkpoint.notes["n_readings"], checkpoint.step) if checkpoint else (kept, 0)
        lose(ledger, run_id, found.rates, since=since, step=step)
    again = bool(checkpoint or kept)
    meter = Meter(
        Job.TRAINING,
        n_chips=found.device.n_chips,
        power=found.power_reader(age_s),
        resting=Phase.LOST if again else Phase.PRETRAIN,
        age_s=age_s,
    )
    with readings(ledger, run_id, meter, found.rates, folder.journal if folder else None) as written:
        account = RunAccount(ledger, run_id, meter, written, found.rates)
        return _Training(task, folder, account, listener, checkpoint, again=again).run()


class _Training:
    """One process of one run."""

    def __init__(
        self,
        task: TrainingTask,
        folder: RunFolder | None,
        account: RunAccount,
        listener: Listener,
        checkpoint: Checkpoint | None,
        *,
        again: bool,
    ) -> None:
        self._task, self._account, self._listener = task, account, listener
        self._resumable, self._folder = folder is not None, folder or RunFolder(task.job.out)
        self._meter, self._corpus, self._spec = account.meter, task.corpus, task.training
        self._checkpoint, self._again, self._spent = checkpoint, again, account.spending()

    def run(self) -> TrainedModel:
        listener, task = self._listener, self._task
        listener.stage("Turning the data into tokens, where that has not been done")
        with self._meter.phase(Phase.LOST if self._again else Phase.PRETRAIN):
            tokens = self._prepare()
        if self._resumable and not self._checkpoint:  # a checkpoint knows its data itself
            self._check_data(tokens)
        data = data_to_json(self._corpus, tokens)
        listener.found("data", data)
        memory = None if task.found.processes else PeakMemory(task.found.device)
        trainer = self._trainer()
        saver = self._saver(trainer, tokens)
        listener.stage(f"Training {task.model.name}")
        self._meter.rest_in(Phase.PRETRAIN)
        batches = job_batches(task.job, self._spec, tokens)
        with Stepping(task, self._folder, self._account, listener, saver, self._spent) as stepping:
            stepping.take(trainer, batches, look=lambda: self._evaluate(trainer, tokens))
        peak = self._peak_to_json(memory.read() if memory else None)
        listener.stage("Measuring quality on data it has never seen")
        quality = {**self._evaluate(trainer, tokens), **beside_the_model(self._corpus)}
        listener.found("quality", quality)
        self._meter.rest()
        training = {**self._training_to_json(trainer, tokens, batches), **peak}
        lineage = {
            "run_id": self._account.run_id,
            "billed_until": "freezing, whose seconds the ledger adds",
            "data": data,
            "training": _without_curve(training),
            "quality": quality,
        }
        bill = price(self._spent(), self._account.rates)
        digest = freeze(
            trainer.network,
            tokens.codec.tokenizer,
            task.job.out,
            lineage=lineage,
            bill=bill.to_json(),
            chat_template=chat_template(self._corpus),
        )
        return TrainedModel(digest, task.model, data, training, quality, tokens.heldout)

    def _prepare(self) -> TokenSet:
        return prepare_tokens(self._task.job, self._corpus, self._listener)

    def _check_data(self, tokens: TokenSet) -> None:
        """Remembers the data of the run; raises RequestError if it was begun with other data."""
        then = self._folder.prepared()
        if then and then.digest != tokens.digest:
            raise RequestError(
                f"data={self._corpus.name}: is not what the run in {self._folder.path} was begun with (tokens "
                f"{tokens.digest[:12]}, then {then.digest[:12]}); put that back, or begin again with --restart"
            )
        if not self._again:
            self._folder.keep_prepared(Prepared(digest=tokens.digest, n_readings=self._account.settled_readings()))

    def _trainer(self) -> Trainer:
        network = Decoder(self._task.model)
        network.initialise(torch.Generator().manual_seed(self._spec.seed))
        guard = SpikeGuard(self._task.job.spike_sigmas)
        found = self._task.found
        if found.processes:
            return Trainer(
                network, self._spec, found.device, guard=guard, step=LeadingStep(network, self._spec, found.processes)
            )
        step = TrainingStep(network, self._spec, found.device)
        if self._resumable:
            step.choose(self._folder.chosen(step.choices))
        return Trainer(network, self._spec, found.device, guard=guard, step=step)

    def _saver(self, trainer: Trainer, tokens: TokenSet) -> Saver | None:
        """Who takes checkpoints; the trainer is put where the newest is."""
        if not self._resumable:
            return None
        folder, processes = self._folder.checkpoints, self._task.found.processes
        saver = Saver(
            LeadingCheckpoints(folder, processes) if processes else Checkpoints(folder),
            trainer,
            {
                "model": f"{self._task.model.name} ({_digest(msgspec.json.encode(self._task.model))})",
                "tokenizer": tokens.codec_digest,
                "data": f"{tokens.n_training_tokens} tokens ({tokens.digest})",
            },
            every_s=self._task.job.checkpoint_every_s,
            account=self._account,
        )
        if self._checkpoint:
            saver.go_on_from(self._checkpoint)
            self._listener.stage(f"Going on after step {trainer.n_done} of {self._spec.n_steps}")
            if differs := same_bits(self._checkpoint):
                self._listener.stage(differs)
        return saver

    def _evaluate(self, trainer: Trainer, tokens: TokenSet) -> dict[str, float]:
        with self._meter.phase(Phase.EVALUATE) as tally:
            return measure_quality(trainer, self._corpus, tokens, tally)

    def _peak_to_json(self, measured_bytes: int | None) -> dict[str, Any]:
        """The most memory that a step took, beside its forecast."""
        planned = self._task.plan["training"].get("peak_memory_bytes")
        peak = {"planned_peak_memory_bytes": planned, "peak_memory_bytes": measured_bytes}
        if measured_bytes is not None:
            return peak
        several = "several processes share the network"
        return {**peak, "peak_memory_reason": several if self._task.found.processes else "this system does not say"}

    def _training_to_json(self, trainer: Trainer, tokens: TokenSet, batches: Batches) -> dict[str, Any]:
        n_tokens = trainer.n_done * self._spec.tokens_per_step
        tokens_per_s = n_tokens / trainer.elapsed_s
        return {
            "n_steps": trainer.n_done,
            "planned_steps": self._spec.n_steps,
            "n_tokens": n_tokens,
            "compute_flops": n_tokens * train_flops_per_token(self._task.model, self._spec.seq_len),
            "epochs": n_tokens / tokens.n_training_tokens,
            "empty_frac": batches.empty_frac,
            "sources": seen_epochs(batches, tokens, trainer.n_done),
            "wall_s": trainer.elapsed_s,
            "tokens_per_s": tokens_per_s,
            "mfu": self._task.mfu(tokens_per_s),
            "mfu_convention": MFU_CONVENTION,
            "curve": curve(self._folder.metrics),
        }


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()[:16]}"


def _without_curve(training: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in training.items() if key != "curve"}
