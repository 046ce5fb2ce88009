"""Training alone: plan, train, freeze, and the plan held against the meter."""

from __future__ import annotations

from typing import Any

from twobills.flows.accounts import account
from twobills.flows.listener import Listener
from twobills.flows.machine import find_machine, machine_to_json, measure_machine
from twobills.flows.training_job import model_to_json, plan_job, planned_job_to_json, run_job
from twobills.jobs.training.corpus import read_corpus
from twobills.jobs.training.freeze import check_free
from twobills.ledger.reconcile import reconcile
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
        listener.stage("Measuring this machine: products per number format, memory, power counters")
        machine = measure_machine(find_machine(job.usd_per_chip_hour))
        machine_document = machine_to_json(machine)
        listener.found("machine", machine_document)
        planned = plan_job(job, corpus, machine)
        plan = planned_job_to_json(planned)
        ledger.plan(run_id, planned.plan.bill, {"machine": machine_document, **plan})
        listener.found("plan", plan)
        trained = run_job(planned, ledger, run_id, listener)
        model = {**model_to_json(trained.model), "folder": str(job.out), "digest": trained.digest}
        ledger.result(run_id, {"model": model, "quality": trained.quality})
    measured = ledger.measured_bills(run_id)[Job.TRAINING]
    return {
        "schema": SCHEMA,
        "run_id": run_id,
        "machine": machine_document,
        "data": trained.data,
        "plan": plan,
        "model": model,
        "training": trained.training,
        "quality": trained.quality,
        "bills": {
            "training": {
                "measured": measured.to_json(),
                "predicted": planned.plan.bill.to_json(),
                "predicted_interval": planned.plan.total_usd.to_json(),
                "gaps": reconcile(planned.plan.bill, measured).to_json(),
            }
        },
    }
