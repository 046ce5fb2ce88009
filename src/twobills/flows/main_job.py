"""The main job: train, freeze, serve, meter, reconcile, on this machine, from one command.

Measures the machine, plans both jobs and stores both plans before the first step; trains; serves the frozen model
over HTTP to a few hundred requests; then sets each measured bill beside its plan, names every dollar of the
difference, and extends both bills over a life.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twobills import __version__
from twobills.flows.accounts import account
from twobills.flows.bills import bills_to_json
from twobills.flows.job_data import forget_tokens, job_corpus
from twobills.flows.listener import Listener
from twobills.flows.machine import FoundMachine
from twobills.flows.planned_job import measure_and_plan, model_to_json, planned_job_to_json
from twobills.flows.provenance import provenance
from twobills.flows.served_load import STARTUP_S, ServedLoad, plan_load, serve_load
from twobills.flows.training_job import TrainedModel, run_job
from twobills.jobs.training.freeze import check_free
from twobills.ledger.store import Ledger
from twobills.money.bill import busy_usd
from twobills.money.rates import machine_usd_per_day
from twobills.plan.inference import inference_plan_to_json
from twobills.plan.life import life
from twobills.report.documents import SCHEMA, to_json_text
from twobills.report.figures.bills import both_bills_figure
from twobills.report.figures.pictures import pictures_figure
from twobills.report.figures.style import standalone
from twobills.report.page import run_page
from twobills.specs.data import DataSpec, Modality
from twobills.specs.job import TrainingJob
from twobills.usage import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class MainJob:
    """What ``twobills run`` was asked to do."""

    out: Path
    data: Path | None
    modality: Modality = Modality.TEXT
    minutes: float
    usd_per_chip_hour: float | None
    seed: int


def run_main_job(asked: MainJob, ledger: Ledger, listener: Listener) -> dict[str, Any]:
    """Does it all and returns the document; the report, its picture and the model lie in ``out``."""
    job = TrainingJob(
        out=asked.out / "model",
        data=DataSpec.of(asked.data, asked.modality),
        minutes=asked.minutes,
        seed=asked.seed,
        usd_per_chip_hour=asked.usd_per_chip_hour,
    )
    check_free(job.out)
    corpus = job_corpus(job)
    settings = {"out": str(asked.out), "minutes": asked.minutes, "data": corpus.name, "seed": asked.seed}
    with account(ledger, "run", settings) as run_id:
        listener.found("run", {"run_id": run_id, "ledger": str(ledger.path)})
        planned = measure_and_plan(job, corpus, ledger, listener)
        inference = plan_load(planned)
        plan = {**planned_job_to_json(planned), "inference": inference_plan_to_json(inference)}
        ledger.plan(run_id, planned.plan.bill, {"machine": planned.machine_document, **plan})
        ledger.plan(run_id, inference.bill, plan["inference"])
        listener.found("plan", plan)
        try:
            trained = run_job(planned.task(max_s=planned.max_s), ledger, run_id, listener)
        finally:
            forget_tokens(job)
        listener.stage(f"Serving the frozen model over HTTP: {inference.workload.n_requests} requests it has not seen")
        served = serve_load(planned, trained, ledger, run_id, listener)
        intervals = {Job.TRAINING: planned.plan.total_usd, Job.INFERENCE: inference.total_usd}
        document = {
            "schema": SCHEMA,
            "version": __version__,
            "run_id": run_id,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "out": str(asked.out),
            "report": str(asked.out / "report.html"),
            "ledger": str(ledger.path),
            "machine": planned.machine_document,
            "data": trained.data,
            "plan": plan,
            "model": _model(trained, served, job.out),
            "training": trained.training,
            "quality": trained.quality,
            "requests": served.load.to_json(),
            "bills": bills_to_json(ledger, run_id, intervals),
            **_life(ledger, run_id, planned.machine.found, served),
            "samples": served.samples(),
            "pictures": served.pictures(),
            "provenance": provenance(planned, startup_s=STARTUP_S),
        }
        _write_beside(asked.out, "report.html", run_page(document))
        _write_beside(asked.out, "two-bills.svg", standalone(both_bills_figure(document["bills"])))
        if drawn := pictures_figure(document["pictures"]):
            _write_beside(asked.out, "pictures.svg", standalone(drawn))
        _write_beside(asked.out, "run.json", to_json_text(document))
        result = {key: document[key] for key in ("model", "quality", "requests", "life")}
        ledger.result(run_id, {**result, "training": trained.training_without_curve})
    return document


def _model(trained: TrainedModel, served: ServedLoad, folder: Path) -> dict[str, Any]:
    return {
        **model_to_json(trained.model),
        "folder": str(folder),
        "digest": trained.digest,
        "digest_before_serving": served.digest_before,
        "digest_after_serving": served.digest_after,
    }


def _life(ledger: Ledger, run_id: str, found: FoundMachine, served: ServedLoad) -> dict[str, Any]:
    """Both measured bills extended over a life."""
    measured = ledger.measured_bills(run_id)
    usd_per_request = busy_usd(measured[Job.INFERENCE]) / served.load.n_ok
    machine_usd = machine_usd_per_day(found.rates, n_chips=found.device.n_chips, watts_per_chip=found.chip.watts)
    points = life(measured[Job.TRAINING].total_usd, usd_per_request, machine_usd)
    return {"usd_per_request": usd_per_request, "life": [point.to_json() for point in points]}


def _write_beside(folder: Path, name: str, text: str) -> None:
    """Writes a file whole or not at all."""
    part = folder / f".{name}.part"
    part.write_text(text, encoding="utf-8")
    part.replace(folder / name)
