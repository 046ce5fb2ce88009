"""Fine-tuning: a base is taught the answers of a set of chats, and what that cost is held against its plan.

The loss on held-out answers is measured before the first step and after the last. The new model's lineage names the
base by its digest; its chat template and the tokens it needs are saved with it, so that ``twobills serve`` and
``transformers`` write chats as it was taught them. Each step is a line of ``OUT.run/metrics.jsonl``. One process,
from beginning to end: it is not gone on with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from twobills.errors import BudgetError, DataError, RequestError
from twobills.flows.accounts import account, readings
from twobills.flows.bills import bills_to_json
from twobills.flows.listener import Listener, TrainingProgress
from twobills.flows.machine import MeasuredMachine, find_machine, machine_to_json, measure_machine
from twobills.flows.planned_job import model_to_json
from twobills.flows.run_folder import RunFolder
from twobills.flows.watching import MetricsFile, curve
from twobills.jobs.data.chat import Chat, ChatBatches, ChatEncoder, EncodedChats, padded, read_chats, split_chats
from twobills.jobs.training.base_model import Base, load_base
from twobills.jobs.training.budget import Budget
from twobills.jobs.training.evaluate import Evaluation, evaluate_batches
from twobills.jobs.training.freeze import check_free, freeze
from twobills.jobs.training.loop import Step, Trainer
from twobills.ledger.store import Ledger
from twobills.meter.clock import Clock, monotonic, process_age_s
from twobills.meter.meter import Meter
from twobills.money.bill import price
from twobills.plan.local import TrainingPlan, mfu, plan_training, training_plan_to_json
from twobills.report.documents import SCHEMA
from twobills.specs.finetune import FinetuneJob
from twobills.usage import Job, Phase, PhaseUsage, Usage

_MEANT = {Phase.PRETRAIN: Phase.FINETUNE}
"""Our trainer's forecast is of pre-training; what is done is the same."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that was decided before the first step."""

    job: FinetuneJob
    base: Base
    training: EncodedChats
    heldout: EncodedChats
    machine: MeasuredMachine
    plan: TrainingPlan
    age_s: Clock
    """Seconds that are on the bill so far, before a meter runs: reading, encoding, measuring the machine."""


def run_finetune(
    job: FinetuneJob, ledger: Ledger, listener: Listener, *, metered_since_start: bool = False
) -> dict[str, Any]:
    """Teaches and freezes; returns the document that ``twobills train --json`` prints.

    ``metered_since_start``: the bill begins with the process, not with this call. Raises BudgetError where a budget
    ends it: the model as it was then is frozen all the same.
    """
    begun_s = monotonic()
    age_s: Clock = process_age_s if metered_since_start else lambda: monotonic() - begun_s
    check_free(job.out)
    settings = {"out": str(job.out), "base": str(job.base), "data": str(job.data)}
    training, heldout = _read(job)
    with account(ledger, "train", {**settings, "finetune": True}) as run_id:
        listener.found("run", {"run_id": run_id, "ledger": str(ledger.path)})
        prepared = _prepare(job, training, heldout, ledger, listener, age_s)
        machine = machine_to_json(prepared.machine)
        plan = {"training": training_plan_to_json(prepared.plan), "model": model_to_json(prepared.plan.model)}
        ledger.plan(run_id, prepared.plan.bill, {"machine": machine, "finetuning": plan["training"]})
        listener.found("machine", machine)
        listener.found("plan", {**plan, "sizes": [], "law": None})
        done = _Finetuning(prepared, ledger, run_id, listener).run()
        ledger.result(run_id, {**done, "training": _without_curve(done["training"])})
        if done["stopped_by"]:
            raise BudgetError(f"{done['stopped_by']}; the model after {done['training']['n_steps']} steps is {job.out}")
    return {
        "schema": SCHEMA,
        "run_id": run_id,
        "machine": machine,
        "plan": plan,
        **done,
        "bills": bills_to_json(ledger, run_id, {Job.TRAINING: prepared.plan.total_usd}),
    }


def _read(job: FinetuneJob) -> tuple[list[Chat], list[Chat]]:
    chats = read_chats(job.data)
    return (chats, read_chats(job.heldout)) if job.heldout else split_chats(chats)


def _prepare(
    job: FinetuneJob, training: list[Chat], heldout: list[Chat], ledger: Ledger, listener: Listener, age_s: Clock
) -> Prepared:
    listener.stage(f"Reading the base {job.base} and writing {len(training) + len(heldout)} chats as its tokens")
    base = load_base(job.base, seed=job.seed)
    context = base.network.spec.max_seq_len
    if job.seq_len is not None and job.seq_len > context:
        raise RequestError(f"seq_len={job.seq_len}: the base's context is {context} tokens; at most that")
    encode = ChatEncoder(base.tokenizer, base.template)
    encoded = [encode(chats, max_seq_len=job.seq_len or context) for chats in (training, heldout)]
    for chats, what in zip(encoded, (job.data, job.heldout or job.data), strict=True):
        if not chats.sequences:
            raise DataError(f"data {what}: no answer begins within {job.seq_len or context} tokens; a larger seq_len")
    listener.stage("Measuring this machine: products per number format, memory, power counters")
    machine = measure_machine(find_machine(job.usd_per_chip_hour), ledger)
    return Prepared(
        job=job,
        base=base,
        training=encoded[0],
        heldout=encoded[1],
        machine=machine,
        plan=_plan(job, base, encoded[0], encoded[1], machine, spent_s=age_s()),
        age_s=age_s,
    )


def _plan(
    job: FinetuneJob,
    base: Base,
    training: EncodedChats,
    heldout: EncodedChats,
    machine: MeasuredMachine,
    *,
    spent_s: float,
) -> TrainingPlan:
    """The forecast of our trainer, its work being fine-tuning and two evaluations; ``spent_s`` have passed."""
    seq_len = max(training.longest, heldout.longest)
    spec = job.spec(
        n_steps=max(1, math.ceil(job.epochs * len(training.sequences) / job.batch_size)),
        seq_len=seq_len,
        dtype=machine.dtype,
        heldout_tokens=2 * len(heldout.sequences) * seq_len,
    )
    plan = plan_training(base.network.spec, spec, machine.spec, machine.found.rates, spent_s=spent_s)
    usage = plan.bill.usage
    phases: dict[Phase, PhaseUsage] = {_MEANT.get(phase, phase): used for phase, used in usage.phases.items()}
    return plan._replace(bill=price(Usage(job=usage.job, origin=usage.origin, phases=phases), plan.bill.rates))


class _Finetuning:
    """One run of one plan."""

    def __init__(self, prepared: Prepared, ledger: Ledger, run_id: str, listener: Listener) -> None:
        found = prepared.machine.found
        self._prepared, self._ledger, self._run_id, self._listener = prepared, ledger, run_id, listener
        self._spec, self._rates = prepared.plan.training, found.rates
        age_s = prepared.age_s()
        self._meter = Meter(
            Job.TRAINING,
            n_chips=found.device.n_chips,
            power=found.power_reader(age_s),
            resting=Phase.FINETUNE,
            age_s=age_s,
        )
        self._budget = Budget(
            prepared.job.limits,
            price=lambda usage: price(usage, self._rates).total_usd,
            n_chips=found.device.n_chips,
            spent=self._spent,
        )
        self._metrics = RunFolder(prepared.job.out).metrics
        self._stopped_by = ""

    def run(self) -> dict[str, Any]:
        with readings(self._ledger, self._run_id, self._meter, self._rates):
            return self._run()

    def _run(self) -> dict[str, Any]:
        prepared, listener = self._prepared, self._listener
        trainer = Trainer(prepared.base.network, self._spec, prepared.machine.found.device)
        listener.stage("Measuring the loss on answers it has never seen, before")
        before = self._evaluate(trainer)
        listener.stage(f"Teaching {prepared.job.base.name} {len(prepared.training.sequences)} chats")
        steps = self._train(trainer)
        listener.stage("Measuring the loss on answers it has never seen, after")
        after = self._evaluate(trainer)
        quality = _quality_to_json(before, after)
        listener.found("quality", quality)
        self._meter.rest()
        parts = {
            "data": _data_to_json(prepared),
            "training": self._training_to_json(steps),
            "quality": quality,
            "base": {
                "folder": str(prepared.job.base),
                "digest": prepared.base.digest,
                "training_bill": (prepared.base.manifest or {}).get("training_bill"),
            },
        }
        digest = self._freeze(trainer, parts)
        model = {**model_to_json(trainer.network.spec), "folder": str(prepared.job.out), "digest": digest}
        return {"model": model, **parts, "stopped_by": self._stopped_by}

    def _train(self, trainer: Trainer) -> list[Step]:
        prepared, spec, steps = self._prepared, self._spec, list[Step]()
        batches = ChatBatches(
            prepared.training, batch_size=spec.batch_size, seq_len=spec.seq_len, seed=prepared.job.seed
        )
        if self._refused(0):
            return steps
        with closing(MetricsFile(self._metrics, n_done=0)) as metrics:
            for step in trainer.run(batches, self._meter, phase=Phase.FINETUNE):
                steps.append(step)
                progress = self._progress(step)
                self._listener.training(progress)
                metrics.watch(self._row(step, progress))
                if step.step < spec.n_steps and self._refused(step.step):
                    break
        return steps

    def _row(self, step: Step, progress: TrainingProgress) -> dict[str, float | int | bool | None]:
        """What ``metrics.jsonl`` keeps of a step, under the names that training's own has."""
        return {
            "step": step.step,
            "loss": step.loss,
            "lr": step.lr_scale * self._spec.lr,
            "grad_norm": step.grad_norm,
            "tokens": step.n_tokens,
            "tokens_per_s": progress.tokens_per_s,
            "mfu": progress.mfu,
            "usd": progress.usd,
            "seconds": step.elapsed_s,
            "skipped": step.skipped,
        }

    def _refused(self, n_done: int) -> bool:
        """Whether a budget forbids the next step, with the evaluation that must follow it."""
        chip_s = self._prepared.plan.step.seconds * self._prepared.machine.found.device.n_chips
        foreseen = PhaseUsage(chip_s=chip_s, flops=self._prepared.plan.step.flops)
        following = self._spent().phases.get(Phase.EVALUATE, PhaseUsage())
        self._stopped_by = self._budget.refuses(self._budget.forecast(n_done, foreseen) + following)
        return bool(self._stopped_by)

    def _spent(self) -> Usage:
        self._meter.catch_up()
        return self._meter.usage()

    def _evaluate(self, trainer: Trainer) -> Evaluation:
        spec, sequences = self._spec, self._prepared.heldout.sequences
        starts = range(0, len(sequences), spec.batch_size)
        batches = (padded(sequences[i : i + spec.batch_size], spec.seq_len) for i in starts)
        with self._meter.phase(Phase.EVALUATE) as tally:
            result = evaluate_batches(trainer.network, batches, attend=trainer.attend)
            tally.add(tokens=len(sequences) * spec.seq_len, flops=result.flops, bytes=result.bytes)
        return result

    def _freeze(self, trainer: Trainer, parts: dict[str, Any]) -> str:
        base, ends = self._prepared.base, sorted(self._prepared.training.end_ids)
        lineage = {
            "run_id": self._run_id,
            "billed_until": "freezing, whose seconds the ledger adds",
            **parts,
            "training": _without_curve(parts["training"]),
        }
        return freeze(
            trainer.network,
            base.tokenizer,
            self._prepared.job.out,
            lineage=lineage,
            bill=price(self._meter.usage(), self._rates).to_json(),
            chat_template=base.template_source,
            tokenizer_config={**base.tokenizer_config, "eos_token": base.tokenizer.id_to_token(ends[0])},
            eos_token_ids=[*ends, *sorted(base.end_ids - set(ends))],
        )

    def _progress(self, step: Step) -> TrainingProgress:
        tokens_per_s = step.n_tokens / step.elapsed_s
        plan = self._prepared.plan
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

    def _training_to_json(self, steps: list[Step]) -> dict[str, Any]:
        n_steps = len(steps)
        return {
            "n_steps": n_steps,
            "planned_steps": self._spec.n_steps,
            "n_tokens": n_steps * self._spec.tokens_per_step,
            "epochs": n_steps * self._spec.batch_size / len(self._prepared.training.sequences),
            "wall_s": steps[-1].elapsed_s if steps else 0.0,
            "optimizer": self._spec.optimizer,
            "lr": self._spec.lr,
            "curve": curve(self._metrics) if steps else [],
        }


def _without_curve(training: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in training.items() if key != "curve"}


def _quality_to_json(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    return {
        "heldout_answer_tokens": after.n_tokens,
        "before_nats_per_token": before.nats / before.n_tokens,
        "after_nats_per_token": after.nats / after.n_tokens,
    }


def _data_to_json(prepared: Prepared) -> dict[str, Any]:
    training, heldout = prepared.training, prepared.heldout
    return {
        "name": str(prepared.job.data),
        "n_sequences": len(training.sequences),
        "n_heldout_sequences": len(heldout.sequences),
        "n_tokens": sum(len(sequence.tokens) for sequence in training.sequences),
        "n_answer_tokens": sum(sequence.n_learned for sequence in training.sequences),
        "n_cut": training.n_cut + heldout.n_cut,
        "n_left_out": training.n_left_out + heldout.n_left_out,
        "n_added_tokens": prepared.base.n_added_tokens,
    }
