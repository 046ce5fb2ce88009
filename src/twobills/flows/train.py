"""Training alone: plan, train, freeze, and the plan held against the meter."""

from __future__ import annotations

from typing import Any

from twobills.flows.accounts import account
from twobills.flows.bills import bills_to_json
from twobills.flows.listener import Listener
from twobills.flows.planned_job import measure_and_plan, model_to_json, planned_job_to_json
from twobills.flows.training_job import run_job
from twobills.jobs.data.corpus import read_corpus
from twobills.jobs.training.freeze import check_free
from twobills.ledger.store import Ledger
from twobills.report.documents import SCHEMA
from twobills.specs.job import TrainingJob
from twobills.usage import Job


def run_train(job: TrainingJob, ledger: Ledger, listener: Listener) -> dict[str, Any]:
    """Trains and freezes; returns the document that ``twobills train --json`` prints."""
    check_free(job.out)
    corpus = read_corpus(job.data)
    with account(ledger, "train", {"out": str(job.out), "minutes": job.minutes, "data": corpus.name}) as run_id:
        listener.found("run", {"run_id": run_id, "ledger": str(ledger.path)})
        planned = measure_and_plan(job, corpus, ledger, listener)
        plan = planned_job_to_json(planned)
        ledger.plan(run_id, planned.plan.bill, {"machine": planned.machine_document, **plan})
        listener.found("plan", plan)
        trained = run_job(planned, ledger, run_id, listener)
        model = {**model_to_json(trained.model), "folder": str(job.out), "digest": trained.digest}
        ledger.result(run_id, {"model": model, "quality": trained.quality, "training": trained.training_without_curve})
    return {
        "schema": SCHEMA,
        "run_id": run_id,
        "machine": planned.machine_document,
        "data": trained.data,
        "plan": plan,
        "model": model,
        "training": trained.training,
        "quality": trained.quality,
        "bills": bills_to_json(ledger, run_id, {Job.TRAINING: planned.plan.total_usd}),
    }
