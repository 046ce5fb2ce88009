"""What a sweep does in its children: looks at the machine, makes the tokens once, trains a cell."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from twobills.flows.accounts import readings
from twobills.flows.job_data import data_to_json, job_corpus, prepare_tokens
from twobills.flows.listener import Listener
from twobills.flows.machine import MeasuredMachine, find_machine, machine_to_json, measure_machine
from twobills.flows.run_folder import RunFolder
from twobills.flows.sweep_process import Slot
from twobills.flows.train import Begin, run_train
from twobills.jobs.device import usable_cores
from twobills.jobs.training.guard import DivergedError
from twobills.ledger.store import Ledger
from twobills.meter.clock import process_age_s
from twobills.meter.meter import Meter
from twobills.plan.sweep import Cell
from twobills.specs.dtype import DType
from twobills.specs.job import TrainingJob
from twobills.specs.sweep import SweepSpec
from twobills.usage import Job, Phase


class Prepared(NamedTuple):
    """What must be known before the first cell."""

    measured: MeasuredMachine
    machine: dict[str, Any]
    data: dict[str, Any]


def slots(workers: int) -> list[Slot]:
    """Where cells run: a GPU each, else a core each; ``workers`` of them, 0 for as many as there are."""
    if n_gpus := torch.cuda.device_count():
        return [Slot(gpu, (), gpu) for gpu in range(min(workers or n_gpus, n_gpus))]
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    n = workers or usable_cores()
    return [Slot(i, (allowed[i % len(allowed)],) if allowed else ()) for i in range(n)]


def measure(usd_per_chip_hour: float | None, ledger: Path) -> tuple[MeasuredMachine, dict[str, Any]]:
    """One slot's share of the machine, timed; and as plain JSON."""
    measured = measure_machine(find_machine(usd_per_chip_hour), Ledger(ledger))
    return measured, machine_to_json(measured)


def make_tokens(spec: SweepSpec, ledger: Path, run_id: str) -> dict[str, Any]:
    """The corpus as tokens, found or made by all cores, on the bill of the sweep's own run; what they are."""
    kept, job = Ledger(ledger), _tokens_job(spec)
    found = find_machine(spec.usd_per_chip_hour)
    age_s = process_age_s()
    meter = Meter(
        Job.TRAINING,
        n_chips=found.device.n_chips,
        power=found.power_reader(age_s),
        resting=Phase.PRETRAIN,
        age_s=age_s,
    )
    with readings(kept, run_id, meter, found.rates):
        corpus = job_corpus(job)
        return data_to_json(corpus, prepare_tokens(job, corpus, Listener()))


def train_cell(
    spec: SweepSpec, cell: Cell, dtype: DType, measured: MeasuredMachine, ledger: Path, run_id: str
) -> dict[str, Any]:
    """Trains a cell, or goes on with it; the document of its run. Raises DivergedError, after which none goes on."""
    found = find_machine(spec.usd_per_chip_hour)
    job = cell_job(spec, cell, dtype.value)
    with RunFolder(job.out).opened() as folder:
        try:
            document = run_train(
                job,
                folder,
                Ledger(ledger),
                Listener(),
                Begin.RESUME,
                measured=replace(measured, found=found),
                part_of={"sweep": run_id, "budget_flops": cell.budget_flops},
            )
        except DivergedError:
            shutil.rmtree(folder.checkpoints, ignore_errors=True)
            raise
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        return document


def cell_job(spec: SweepSpec, cell: Cell, dtype: str) -> TrainingJob:
    """The cell as a training job like any other."""
    model = cell.model
    return TrainingJob(
        out=spec.out / "cells" / cell.name,
        data=replace(spec.data, cache=spec.out / "tokens"),
        steps=cell.n_steps,
        vocab_size=spec.vocab_size,
        batch_size=cell.batch_size,
        seq_len=cell.seq_len,
        seed=spec.seed,
        dtype=dtype,
        usd_per_chip_hour=spec.usd_per_chip_hour,
        model={
            "n_layers": model.n_layers,
            "d_model": model.d_model,
            "n_heads": model.n_heads,
            "n_kv_heads": model.n_kv_heads,
            "d_head": model.d_head,
            "d_ff": model.d_ff,
        },
        training={"lr": cell.lr, "muon_lr": cell.muon_lr},
    )


def _tokens_job(spec: SweepSpec) -> TrainingJob:
    """A job that has the sweep's data and vocabulary."""
    return TrainingJob(
        out=spec.out / "cells" / "tokens",
        data=replace(spec.data, cache=spec.out / "tokens"),
        vocab_size=spec.vocab_size,
        seq_len=spec.seq_len,
        seed=spec.seed,
    )
