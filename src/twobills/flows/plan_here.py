"""The two halves of a life on the machine one sits at, measured: our own trainer's bill, and the simulated server's.

The machine is one, all of it; what it takes at most is what it answers when kept busy.
"""

from __future__ import annotations

import math
from datetime import date

from twobills.flows.asked import quantity, resolve_model
from twobills.flows.plan_halves import Served, Trained
from twobills.money.bill import busy_usd
from twobills.money.rates import Rates, at_user_price, machine_usd_per_day, rented
from twobills.plan.inference import InferencePlan, inference_plan_to_json, plan_inference, serving_log_sigma
from twobills.plan.life import Serving, machines_for
from twobills.plan.local import plan_training, training_log_sigma, training_plan_to_json
from twobills.specs import catalog
from twobills.specs.dtype import DType
from twobills.specs.experience import JobExperience
from twobills.specs.hardware import MachineSpec
from twobills.specs.model import ModelSpec
from twobills.specs.plan_file import PlanSpec
from twobills.specs.serving import KV_BLOCK_TOKENS, ServingSpec
from twobills.specs.training import TrainingSpec
from twobills.specs.workload import Workload
from twobills.units import MEGA, SECONDS_PER_DAY
from twobills.usage import Phase

MAX_TRAIN_SEQ_LEN = 4096
LOCAL_BATCH_SIZE = 8
ROUNDS = 4
"""The load is simulated for so many rounds of all clients, enough for a steady state."""


def trained_here(asked: PlanSpec, machine: MachineSpec, dtype: DType) -> Trained:
    """The bill of our own trainer. Raises SpecError where it does not fit."""
    model = resolve_model(asked.model, asked.catalog_file)
    rates = _rates(machine, asked.train_usd_per_chip_hour, asked)
    plan = plan_training(model, _training(asked, model, dtype), machine, rates)
    return Trained(
        document=training_plan_to_json(plan),
        total_usd=plan.total_usd,
        chip=machine.chip.name,
        n_chips=machine.n_chips,
        split=None,
        assumed=[_error("training", training_log_sigma(machine), machine.experience.training)],
    )


def served_here(asked: PlanSpec, machine: MachineSpec, dtype: DType) -> Served:
    """The simulated bill of our own server. Raises SpecError where it does not fit."""
    model = resolve_model(asked.model, asked.catalog_file)
    rates = _rates(machine, asked.serve_usd_per_chip_hour, asked)
    load = Workload(
        n_requests=ROUNDS * asked.concurrency,
        prompt_tokens=asked.prompt_tokens,
        answer_tokens=asked.answer_tokens,
        concurrency=asked.concurrency,
    )
    plan = plan_inference(model, _serving(load, dtype), load, machine, rates)
    busy_s = sum(line.usage.chip_s for line in plan.bill.lines if line.phase is not Phase.IDLE) / machine.n_chips
    assumed = [_error("serving", serving_log_sigma(machine), machine.experience.inference)]
    if rates.assumed:
        assumed.append(f"price: {rates.source}")
    serving = Serving(
        usd_per_request=busy_usd(plan.bill) / load.n_requests,
        usd_per_machine_day=machine_usd_per_day(rates, n_chips=machine.n_chips, watts_per_chip=machine.chip.watts),
        requests_per_machine_day=load.n_requests / busy_s * SECONDS_PER_DAY,
    )
    used = _per_mtok(plan)
    idle = _reserved_over_used(asked, serving)
    reserved = {kind: None if usd is None else usd * idle for kind, usd in used.items()}
    return Served(
        document={
            "chip": machine.chip.name,
            "chips_per_machine": machine.n_chips,
            "requests_per_day_per_machine_at_most": serving.requests_per_machine_day,
            **inference_plan_to_json(plan),
        },
        serving=serving,
        spread=plan.total_usd.spread,
        chip=machine.chip.name,
        machine_chips=machine.n_chips,
        prices={"usd_per_mtok": used, "usd_per_mtok_reserved": reserved, "usd_per_mtok_when_full": used},
        split=None,
        rates_of_work=machine.efficiency.source.value,
        assumed=assumed,
    )


def _per_mtok(plan: InferencePlan) -> dict[str, float | None]:
    """By phase: reading prompts is input, writing answers output; cached tokens cost our server nothing to speak of."""
    load = plan.workload
    input_usd = plan.bill.line(Phase.PREFILL).usd / (load.n_requests * load.prompt_tokens)
    output_usd = plan.bill.line(Phase.DECODE).usd / (load.n_requests * load.answer_tokens)
    return {"input": input_usd * MEGA, "cached_input": None, "output": output_usd * MEGA}


def _reserved_over_used(asked: PlanSpec, serving: Serving) -> float:
    """What whole machines cost on the first day over what their busy time does; 1 where that is nothing."""
    life = asked.life()
    requests = life.demand.launch_requests_per_day
    used = requests * float(serving.usd_per_request)
    n_machines = float(machines_for(requests, serving.requests_per_machine_day, life))
    return n_machines * float(serving.usd_per_machine_day) / used if used else 1.0


def _training(asked: PlanSpec, model: ModelSpec, dtype: DType) -> TrainingSpec:
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


def _rates(machine: MachineSpec, usd_per_chip_hour: float | None, asked: PlanSpec) -> Rates:
    given = asked.usd_per_chip_hour if usd_per_chip_hour is None else usd_per_chip_hour
    if given is not None:
        return at_user_price(given, as_of=date.today().isoformat())
    return rented(catalog.chip_price(machine.chip.name, asked.catalog_file))


def _error(job: str, log_sigma: float, learned: JobExperience | None) -> str:
    basis = f", calibrated on {learned.n_runs} runs of this machine" if learned else ""
    return f"forecast error of {job}: log-normal, sigma {log_sigma:.2g}{basis}"
