"""Training alone: plan, train, freeze, and the plan held against the meter; what was stopped or killed goes on."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from twobills.errors import RequestError
from twobills.flows.accounts import account
from twobills.flows.bills import bills_to_json
from twobills.flows.job_data import AnyCorpus, job_corpus
from twobills.flows.listener import Listener
from twobills.flows.machine import FoundMachine, MeasuredMachine, find_machine, machine_to_json
from twobills.flows.planned_job import job_cores, measure_and_plan, model_to_json, plan_job
from twobills.flows.run_folder import RunFolder, Stored, check_same
from twobills.flows.training_job import run_job
from twobills.flows.training_task import TrainingTask, task_from_json
from twobills.jobs.training.checkpoint import Checkpoints
from twobills.jobs.training.freeze import check_free
from twobills.jobs.training.processes import Processes
from twobills.jobs.training.sharded_step import check_group
from twobills.ledger.journal import Chips, settle
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.meter.clock import process_age_s
from twobills.report.documents import SCHEMA
from twobills.specs.job import HOW_KEYS, TrainingJob
from twobills.usage import Job


class Begin(StrEnum):
    """What to do about a run that was begun before."""

    NEW = "new"
    """Begin one, unless another is unfinished."""
    RESUME = "resume"
    """Go on with it; begin one if there is none."""
    RESTART = "restart"
    """Begin one whatever there is."""


def run_train(
    job: TrainingJob,
    folder: RunFolder,
    ledger: Ledger,
    listener: Listener,
    begin: Begin = Begin.NEW,
    processes: Processes | None = None,
    measured: MeasuredMachine | None = None,
    part_of: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains and freezes in an open folder; returns the document that ``twobills train --json`` prints.

    ``processes`` are several that train together; this one leads them. A machine that was ``measured`` is not measured
    again. ``part_of`` says in the ledger what larger work the run belongs to.
    """
    check_free(job.out)
    if processes:
        how = {key: job.training[key] for key in HOW_KEYS if key in job.training}
        check_group(processes.n, batch_size=job.batch_size, **how)
    stored = _stored(job, folder, begin)
    if stored and (document := folder.result()):
        return _done_already(document, stored.run_id, ledger, listener)
    corpus = job_corpus(job)
    settings = {"out": str(job.out), "length": job.length, "data": corpus.name, "resumed": bool(stored)}
    settings |= part_of or {}
    with account(ledger, "train", settings, run_id=stored.run_id if stored else None) as run_id:
        if not stored:
            folder.clear()
            folder.store(run_id, job)
        listener.found("run", {"run_id": run_id, "ledger": str(ledger.path)})
        n_cores = None if processes else job_cores(job, corpus)
        found = measured.found if measured else find_machine(job.usd_per_chip_hour, processes, n_cores)
        _settle(found, folder, ledger, run_id)
        task = _task(job, corpus, stored, measured or found, folder, ledger, run_id, listener)
        trained = run_job(task, ledger, run_id, listener, folder)
        model = {**model_to_json(trained.model), "folder": str(job.out), "digest": trained.digest}
        ledger.result(run_id, {"model": model, "quality": trained.quality, "training": trained.training_without_curve})
        document = {
            "schema": SCHEMA,
            "run_id": run_id,
            "machine": task.machine,
            "data": trained.data,
            "plan": task.plan,
            "model": model,
            "training": trained.training,
            "quality": trained.quality,
            "bills": bills_to_json(ledger, run_id, {Job.TRAINING: task.total_usd}),
        }
        folder.finish(document)
    return document


def _stored(job: TrainingJob, folder: RunFolder, begin: Begin) -> Stored | None:
    """The run to go on with, None to begin one. Raises RequestError where that would lose or mix up something."""
    if begin is Begin.RESTART:
        return None
    stored = folder.stored()
    if begin is Begin.RESUME and stored:
        check_same(stored, job, folder)
        return stored
    steps = Checkpoints(folder.checkpoints).steps()
    if begin is Begin.NEW and stored and steps and not folder.result():
        raise RequestError(
            f"{folder.path}: holds a run that is not finished, with a checkpoint of step {steps[0]}; "
            "--resume goes on with it, --restart begins again"
        )
    return None


def _done_already(document: dict[str, Any], run_id: str, ledger: Ledger, listener: Listener) -> dict[str, Any]:
    """What a run that was finished gave; its end is recorded if the process died just before."""
    listener.stage(f"Run {run_id} is done already: nothing is left to go on with")
    if ledger.outcome(run_id) is not Outcome.DONE:
        ledger.end(run_id, Outcome.DONE)
    return document


def _settle(found: FoundMachine, folder: RunFolder, ledger: Ledger, run_id: str) -> None:
    """Adds to the bill what processes that died here spent since their last readings."""
    assert folder.journal is not None, "the folder is open"
    chips = Chips(found.device.n_chips, found.chip.watts)
    settle(ledger, run_id, folder.processes, mine=folder.journal.process, rates=found.rates, chips=chips)


def _task(
    job: TrainingJob,
    corpus: AnyCorpus,
    stored: Stored | None,
    machine: FoundMachine | MeasuredMachine,
    folder: RunFolder,
    ledger: Ledger,
    run_id: str,
    listener: Listener,
) -> TrainingTask:
    """What was decided when the run began; decided now, and kept, if it was not yet."""
    if stored and stored.task:
        found = machine.found if isinstance(machine, MeasuredMachine) else machine
        task = task_from_json(stored.task, job, corpus, found)
    else:
        if isinstance(machine, MeasuredMachine):
            listener.found("machine", machine_to_json(machine))
            task = plan_job(job, corpus, machine, spent_s=process_age_s()).task()
        else:
            task = measure_and_plan(job, corpus, ledger, listener, found=machine, metered_since_start=True).task()
        folder.store(run_id, job, task.to_json())
        listener.found("plan", task.plan)
    if Job.TRAINING not in ledger.planned_bills(run_id):
        ledger.plan(run_id, task.predicted, {"machine": task.machine, **task.plan})
    return task
