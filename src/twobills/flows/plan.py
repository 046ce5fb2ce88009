"""Both predicted bills of a model: to train it once on any chips, and to serve a load on one of them for ever.

On the machine one sits at (``this``) training is our own trainer's, from measured rates; elsewhere it is
``plan.training``'s. One chip serves, at its data sheet's rates times fractions that are the same for every chip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from twobills.counts.params import count_params
from twobills.flows.plan_training import TrainingRequest, parse_chips, planned_run, quantity, resolve_model
from twobills.flows.training_document import assumptions, run_plan_to_json
from twobills.money.bill import busy_usd
from twobills.money.rates import Rates, at_user_price, machine_usd_per_day, rented
from twobills.perf.datasheet import machine_from_datasheet
from twobills.plan.inference import inference_plan_to_json, plan_inference, serving_log_sigma
from twobills.plan.life import life
from twobills.plan.local import plan_training, training_log_sigma, training_plan_to_json
from twobills.report.documents import SCHEMA
from twobills.specs import catalog
from twobills.specs.calibration import published_calibration
from twobills.specs.dtype import DType
from twobills.specs.experience import JobExperience
from twobills.specs.hardware import MachineSpec
from twobills.specs.model import ModelSpec
from twobills.specs.serving import KV_BLOCK_TOKENS, ServingSpec
from twobills.specs.training import TrainingSpec
from twobills.specs.workload import Workload

MAX_TRAIN_SEQ_LEN = 4096
LOCAL_BATCH_SIZE = 8
ROUNDS = 4
"""The load is simulated for so many rounds of all clients, enough for a steady state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What ``twobills plan`` was asked."""

    model: str
    tokens: str
    chips: str
    batch_size: int | None
    seq_len: int | None
    prompt_tokens: int
    answer_tokens: int
    concurrency: int
    usd_per_chip_hour: float | None
    catalog_file: Path | None = None


class _Trained(NamedTuple):
    """The training half."""

    document: dict[str, Any]
    total_usd: float
    rates: Rates
    n_chips: int
    assumed: list[str]


def plan_both(asked: PlanRequest, measured: MachineSpec | None, dtype: DType | None) -> dict[str, Any]:
    """The document that ``twobills plan --json`` prints. ``measured``: this machine; None reads data sheets."""
    model = resolve_model(asked.model, asked.catalog_file)
    if measured is None:
        chip = catalog.chip(parse_chips(asked.chips)[0], asked.catalog_file)
        machine, dtype = machine_from_datasheet(chip), DType.BF16
        trained = _trained_on_datasheet(asked)
    else:
        trained, machine = _trained_here(asked, model, measured, dtype or DType.BF16), measured
    load = Workload(
        n_requests=ROUNDS * asked.concurrency,
        prompt_tokens=asked.prompt_tokens,
        answer_tokens=asked.answer_tokens,
        concurrency=asked.concurrency,
    )
    serve_plan = plan_inference(model, _serving(load, dtype or DType.BF16), load, machine, trained.rates)
    usd_per_request = busy_usd(serve_plan.bill) / load.n_requests
    machine_usd = machine_usd_per_day(trained.rates, n_chips=machine.n_chips, watts_per_chip=machine.chip.watts)
    points = life(trained.total_usd, usd_per_request, machine_usd)
    return {
        "schema": SCHEMA,
        "model": {"name": model.name, "n_params": count_params(model).total},
        "chip": {
            "name": machine.chip.name,
            "n_chips": trained.n_chips,
            "n_serving_chips": machine.n_chips,
            "rates_of_work": machine.efficiency.source.value,
        },
        "training": trained.document,
        "inference": inference_plan_to_json(serve_plan),
        "usd_per_request": usd_per_request,
        "life": [point.to_json() for point in points],
        "assumed": [*trained.assumed, *_assumed(trained.rates, machine)],
    }


def _trained_on_datasheet(asked: PlanRequest) -> _Trained:
    request = TrainingRequest(
        model=asked.model,
        tokens=asked.tokens,
        chips=asked.chips,
        batch_size=asked.batch_size,
        seq_len=asked.seq_len,
        usd_per_chip_hour=asked.usd_per_chip_hour,
        catalog_file=asked.catalog_file,
    )
    plan = planned_run(request).plan
    assumed = [f"training: {line}" for line in assumptions(plan, published_calibration())]
    return _Trained(run_plan_to_json(plan), plan.bill.total_usd, plan.bill.rates, plan.cluster.n_chips, assumed)


def _trained_here(asked: PlanRequest, model: ModelSpec, machine: MachineSpec, dtype: DType) -> _Trained:
    rates = _rates(machine, asked)
    plan = plan_training(model, _training(asked, model, dtype), machine, rates)
    error = _error("training", training_log_sigma(machine), machine.experience.training)
    return _Trained(training_plan_to_json(plan), plan.bill.total_usd, rates, machine.n_chips, [error])


def _training(asked: PlanRequest, model: ModelSpec, dtype: DType) -> TrainingSpec:
    n_tokens = quantity("--tokens", asked.tokens)
    seq_len = asked.seq_len or min(model.max_seq_len, MAX_TRAIN_SEQ_LEN)
    batch_size = asked.batch_size or LOCAL_BATCH_SIZE
    n_steps = math.ceil(n_tokens / (batch_size * seq_len))
    return TrainingSpec(n_steps=n_steps, batch_size=batch_size, seq_len=seq_len, dtype=dtype, heldout_tokens=0)


def _serving(load: Workload, dtype: DType) -> ServingSpec:
    context_len = load.prompt_tokens + load.answer_tokens
    blocks = load.concurrency * math.ceil(context_len / KV_BLOCK_TOKENS)
    return ServingSpec(
        max_batch_size=load.concurrency,
        batch_size_tokens=max(512, load.concurrency),
        max_context_len=context_len,
        n_kv_blocks=blocks,
        dtype=dtype,
    )


def _rates(machine: MachineSpec, asked: PlanRequest) -> Rates:
    if asked.usd_per_chip_hour is not None:
        return at_user_price(asked.usd_per_chip_hour, as_of=date.today().isoformat())
    return rented(catalog.chip_price(machine.chip.name, asked.catalog_file))


def _assumed(rates: Rates, machine: MachineSpec) -> list[str]:
    assumed = [
        _error("serving", serving_log_sigma(machine), machine.experience.inference),
        "constant demand and prices",
    ]
    if rates.assumed:
        assumed.append(f"price: {rates.source}")
    if machine.efficiency.source.value == "data sheet":
        assumed.append("speed of serving: fractions of the data sheet's peaks, the same for every chip")
    return assumed


def _error(job: str, log_sigma: float, learned: JobExperience | None) -> str:
    basis = f", calibrated on {learned.n_runs} runs of this machine" if learned else ""
    return f"forecast error of {job}: log-normal, sigma {log_sigma:.2g}{basis}"
