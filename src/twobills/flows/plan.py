"""Both predicted bills of a model on one chip: to train it once, and to serve a load for ever."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from twobills.counts.params import count_params
from twobills.errors import CatalogError, RequestError
from twobills.money.bill import busy_usd
from twobills.money.rates import Rates, at_user_price, machine_usd_per_day, rented
from twobills.perf.datasheet import machine_from_datasheet
from twobills.plan.inference import inference_plan_to_json, plan_inference
from twobills.plan.life import life
from twobills.plan.local import plan_training, training_plan_to_json
from twobills.report.documents import SCHEMA
from twobills.specs import catalog
from twobills.specs.dtype import DType
from twobills.specs.hardware import MachineSpec
from twobills.specs.hf import read_config
from twobills.specs.model import ModelSpec
from twobills.specs.serving import KV_BLOCK_TOKENS, ServingSpec
from twobills.specs.training import TrainingSpec
from twobills.specs.workload import Workload
from twobills.units import parse_count

MAX_TRAIN_SEQ_LEN = 4096
ROUNDS = 4
"""The load is simulated for so many rounds of all clients, enough for a steady state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What ``twobills plan`` was asked."""

    model: str
    tokens: str
    chip: str
    batch_size: int
    seq_len: int | None
    prompt_tokens: int
    answer_tokens: int
    concurrency: int
    usd_per_chip_hour: float | None


def plan_both(asked: PlanRequest, machine: MachineSpec | None, dtype: DType | None) -> dict[str, Any]:
    """The document that ``twobills plan --json`` prints. ``machine`` is a measured one; None reads the data sheet."""
    model = resolve_model(asked.model)
    if machine is None:
        machine, dtype = machine_from_datasheet(catalog.chip(asked.chip)), DType.BF16
    rates = _rates(machine, asked.usd_per_chip_hour)
    training = _training(asked, model, dtype or DType.BF16)
    train_plan = plan_training(model, training, machine, rates)
    load = Workload(
        n_requests=ROUNDS * asked.concurrency,
        prompt_tokens=asked.prompt_tokens,
        answer_tokens=asked.answer_tokens,
        concurrency=asked.concurrency,
    )
    serve_plan = plan_inference(model, _serving(load, training.dtype), load, machine, rates)
    usd_per_request = busy_usd(serve_plan.bill) / load.n_requests
    machine_usd = machine_usd_per_day(rates, n_chips=machine.n_chips, watts_per_chip=machine.chip.watts)
    points = life(train_plan.bill.total_usd, usd_per_request, machine_usd)
    return {
        "schema": SCHEMA,
        "model": {"name": model.name, "n_params": count_params(model).total},
        "chip": {
            "name": machine.chip.name,
            "n_chips": machine.n_chips,
            "rates_of_work": machine.efficiency.source.value,
        },
        "training": training_plan_to_json(train_plan),
        "inference": inference_plan_to_json(serve_plan),
        "usd_per_request": usd_per_request,
        "life": [point.to_json() for point in points],
        "assumed": _assumed(rates, machine),
    }


def resolve_model(name: str) -> ModelSpec:
    """A catalogue name, a ``config.json`` or a folder with one. Raises RequestError if it is none of them."""
    path = Path(name)
    if path.is_dir():
        return read_config(path / "config.json")
    if path.is_file():
        return read_config(path)
    try:
        return catalog.model(name)
    except CatalogError as error:
        raise RequestError(f"{error}; a path to a config.json or a model folder works too") from None


def _training(asked: PlanRequest, model: ModelSpec, dtype: DType) -> TrainingSpec:
    try:
        n_tokens = parse_count(asked.tokens)
    except ValueError as error:
        raise RequestError(f"--tokens {error}") from None
    seq_len = asked.seq_len or min(model.max_seq_len, MAX_TRAIN_SEQ_LEN)
    n_steps = math.ceil(n_tokens / (asked.batch_size * seq_len))
    if n_steps < 1:
        raise RequestError(f"--tokens {asked.tokens}: must be above 0")
    return TrainingSpec(n_steps=n_steps, batch_size=asked.batch_size, seq_len=seq_len, dtype=dtype, heldout_tokens=0)


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


def _rates(machine: MachineSpec, usd_per_chip_hour: float | None) -> Rates:
    if usd_per_chip_hour is None:
        return rented(catalog.chip_price(machine.chip.name))
    return at_user_price(usd_per_chip_hour, as_of=date.today().isoformat())


def _assumed(rates: Rates, machine: MachineSpec) -> list[str]:
    assumed = [
        f"forecast error: log-normal, sigma {machine.efficiency.log_sigma:g}",
        "constant demand and prices",
    ]
    if rates.assumed:
        assumed.append(f"price: {rates.source}")
    if machine.efficiency.source.value == "data sheet":
        assumed.append("speed: fractions of the data sheet's peaks, the same for every chip")
    return assumed
