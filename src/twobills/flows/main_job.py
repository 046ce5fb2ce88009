"""The main job: train, freeze, serve, meter, reconcile, on this machine, from one command.

Measures the machine, plans both jobs and stores both plans before the first step; trains; serves the frozen model
over HTTP in a process of its own to a few hundred requests with prompts from the held-out documents; then sets each
measured bill beside its plan, names every dollar of the difference, and extends both bills over a life.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from twobills import __version__
from twobills.errors import DigestError, ServerError
from twobills.flows.accounts import account
from twobills.flows.adapters.openai_load import LoadResult, send_load
from twobills.flows.listener import Listener
from twobills.flows.machine import MeasuredMachine, find_machine, machine_to_json, measure_machine
from twobills.flows.provenance import provenance
from twobills.flows.server_process import server_process
from twobills.flows.serving_job import serving_spec
from twobills.flows.training_job import (
    PlannedJob,
    TrainedModel,
    model_to_json,
    plan_job,
    planned_job_to_json,
    run_job,
)
from twobills.jobs.training.corpus import read_corpus
from twobills.jobs.training.freeze import check_free
from twobills.ledger.reconcile import reconcile
from twobills.ledger.store import Ledger
from twobills.money.bill import busy_usd
from twobills.money.rates import machine_usd_per_day
from twobills.plan.inference import InferencePlan, inference_plan_to_json, plan_inference
from twobills.plan.interval import Interval
from twobills.plan.life import life
from twobills.report.documents import SCHEMA, to_json_text
from twobills.report.figures.bills import both_bills_figure
from twobills.report.figures.style import standalone
from twobills.report.page import run_page
from twobills.specs.job import TrainingJob
from twobills.specs.workload import Workload
from twobills.usage import Job

WORKLOAD = Workload(n_requests=300, prompt_tokens=96, answer_tokens=64, concurrency=16)
TEMPERATURE = 0.7
N_SAMPLES = 4
STARTUP_S = 1.5
"""Assumed: seconds in which the server loads, starts and stops, paid for without a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MainJob:
    """What ``twobills run`` was asked to do."""

    out: Path
    data: Path | None
    minutes: float
    usd_per_chip_hour: float | None
    seed: int


def run_main_job(asked: MainJob, ledger: Ledger, listener: Listener) -> dict[str, Any]:
    """Does it all and returns the document; the report, its picture and the model lie in ``out``."""
    job = TrainingJob(
        out=asked.out / "model",
        data=asked.data,
        minutes=asked.minutes,
        seed=asked.seed,
        usd_per_chip_hour=asked.usd_per_chip_hour,
    )
    check_free(job.out)
    corpus = read_corpus(job.data)
    with account(ledger, "run", {"out": str(asked.out), "minutes": asked.minutes, "data": corpus.name}) as run_id:
        listener.found("run", {"run_id": run_id, "ledger": str(ledger.path)})
        listener.stage("Measuring this machine: products per number format, memory, power counters")
        machine = measure_machine(find_machine(job.usd_per_chip_hour))
        machine_document = machine_to_json(machine)
        listener.found("machine", machine_document)
        planned = plan_job(job, corpus, machine)
        inference = _plan_serving(planned)
        plan = {**planned_job_to_json(planned), "inference": inference_plan_to_json(inference)}
        ledger.plan(run_id, planned.plan.bill, {"machine": machine_document, **plan})
        ledger.plan(run_id, inference.bill, plan["inference"])
        listener.found("plan", plan)
        trained = run_job(planned, ledger, run_id, listener)
        load, served = _serve(asked, trained, job.out, machine, ledger, run_id, listener)
        document = {
            "schema": SCHEMA,
            "version": __version__,
            "run_id": run_id,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "out": str(asked.out),
            "report": str(asked.out / "report.html"),
            "ledger": str(ledger.path),
            "machine": machine_document,
            "data": trained.data,
            "plan": plan,
            "model": _model(trained, served, job.out),
            "training": trained.training,
            "quality": trained.quality,
            "requests": load.to_json(),
            **_bills(ledger, run_id, machine, load, planned.plan.total_usd, inference.total_usd),
            "samples": _samples(trained, job.out, load),
            "provenance": provenance(machine, planned.law, startup_s=STARTUP_S),
        }
        _write_beside(asked.out, "report.html", run_page(document))
        _write_beside(asked.out, "two-bills.svg", standalone(both_bills_figure(document["bills"])))
        _write_beside(asked.out, "run.json", to_json_text(document))
        ledger.result(run_id, {key: document[key] for key in ("model", "quality", "requests", "life")})
    listener.found("done", document)
    return document


def _plan_serving(planned: PlannedJob) -> InferencePlan:
    model, machine = planned.plan.model, planned.machine
    return plan_inference(
        model,
        serving_spec(model, machine.dtype),
        WORKLOAD,
        machine.spec,
        machine.found.rates,
        startup_s=STARTUP_S,
    )


def _serve(
    asked: MainJob,
    trained: TrainedModel,
    folder: Path,
    machine: MeasuredMachine,
    ledger: Ledger,
    run_id: str,
    listener: Listener,
) -> tuple[LoadResult, dict[str, Any]]:
    listener.stage(f"Serving the frozen model over HTTP: {WORKLOAD.n_requests} requests from held-out text")
    prompts = _prompts(trained, folder)
    arguments = ["--dtype", machine.dtype.value]
    if asked.usd_per_chip_hour is not None:
        arguments += ["--usd-per-chip-hour", repr(asked.usd_per_chip_hour)]
    with server_process(folder, ledger=ledger.path, run_id=run_id, arguments=arguments) as server:
        load = send_load(
            server.url,
            prompts,
            concurrency=WORKLOAD.concurrency,
            max_tokens=WORKLOAD.answer_tokens,
            temperature=TEMPERATURE,
            on_answer=lambda done: listener.serving(done, len(prompts)),
        )
        served = server.stop()
    _check_served(trained, load, served)
    listener.found("requests", load.to_json())
    return load, served


def _check_served(trained: TrainedModel, load: LoadResult, served: dict[str, Any]) -> None:
    """Raises DigestError if other weights were served than were trained, ServerError if no request was answered."""
    digests = {trained.digest, served["digest_before_serving"], served["digest_after_serving"]}
    if len(digests) != 1:
        raise DigestError(f"trained {trained.digest}, but served {served['digest_before_serving']}; was --out shared?")
    if all(answer.error for answer in load.answers):
        raise ServerError(f"none of {len(load.answers)} requests was answered; the first said: {load.answers[0].error}")


def _prompts(trained: TrainedModel, folder: Path) -> list[str]:
    """Held-out text at evenly spread places, each ``prompt_tokens`` long, as text."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    length = WORKLOAD.prompt_tokens
    windows = [tokens[i : i + length] for tokens in trained.heldout_tokens for i in range(1, len(tokens), length)]
    windows = [window for window in windows if len(window) == length] or windows
    chosen = [windows[i * len(windows) // WORKLOAD.n_requests] for i in range(WORKLOAD.n_requests)]
    return [tokenizer.decode(window.tolist()) for window in chosen]


def _model(trained: TrainedModel, served: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {
        **model_to_json(trained.model),
        "folder": str(folder),
        "digest": trained.digest,
        "digest_before_serving": served["digest_before_serving"],
        "digest_after_serving": served["digest_after_serving"],
    }


def _bills(
    ledger: Ledger,
    run_id: str,
    machine: MeasuredMachine,
    load: LoadResult,
    training_usd: Interval,
    inference_usd: Interval,
) -> dict[str, Any]:
    """Both bills beside their plans, read back from the ledger, and the life that follows from the measured ones."""
    planned, measured = ledger.planned_bills(run_id), ledger.measured_bills(run_id)
    intervals = {Job.TRAINING: training_usd, Job.INFERENCE: inference_usd}
    bills = {
        job.value: {
            "measured": measured[job].to_json(),
            "predicted": planned[job].to_json(),
            "predicted_interval": intervals[job].to_json(),
            "gaps": reconcile(planned[job], measured[job]).to_json(),
        }
        for job in Job
    }
    usd_per_request = busy_usd(measured[Job.INFERENCE]) / load.to_json()["ok"]
    found = machine.found
    machine_usd = machine_usd_per_day(found.rates, n_chips=found.device.n_chips, watts_per_chip=found.chip.watts)
    points = life(measured[Job.TRAINING].total_usd, usd_per_request, machine_usd)
    return {"bills": bills, "usd_per_request": usd_per_request, "life": [point.to_json() for point in points]}


def _samples(trained: TrainedModel, folder: Path, load: LoadResult) -> list[dict[str, str]]:
    prompts = _prompts(trained, folder)
    every = max(1, len(prompts) // N_SAMPLES)
    return [
        {"prompt": prompts[i], "completion": load.answers[i].text}
        for i in range(0, len(prompts), every)
        if load.answers[i].error is None
    ][:N_SAMPLES]


def _write_beside(folder: Path, name: str, text: str) -> None:
    """Writes a file whole or not at all."""
    part = folder / f".{name}.part"
    part.write_text(text, encoding="utf-8")
    part.replace(folder / name)
