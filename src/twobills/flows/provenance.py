"""Where every input of a run's figures comes from, how it is known, and what is on no bill."""

from __future__ import annotations

from typing import Any, NamedTuple

from twobills.flows.job_data import bytes_per_token
from twobills.flows.machine import FoundMachine, MeasuredMachine
from twobills.flows.planned_job import PlannedJob, planned_job_to_json
from twobills.plan.inference import STREAM_S_PER_TOKEN, serving_log_sigma
from twobills.plan.local import PREPARE_BYTES_PER_S, training_log_sigma
from twobills.specs.data import Modality
from twobills.specs.experience import JobExperience
from twobills.units import per_s_to_per_hour, show_bytes, show_seconds, show_usd
from twobills.usage import Stamp

NOT_BILLED = "reading files, measuring this machine, the compressors compared with, the server's imports"
"""Seconds of this machine that are on neither bill."""


class Fact(NamedTuple):
    """One input."""

    what: str
    value: str
    how: str
    """measured, sourced, estimated, declared or assumed."""
    source: str
    as_of: str = ""


def provenance(planned: PlannedJob, *, startup_s: float) -> list[dict[str, Any]]:
    """One row per input, as plain JSON."""
    machine = planned.machine
    facts = [*_measured(machine), *_money(machine.found), *_size(planned), *_forecast(machine, startup_s)]
    return [fact._asdict() for fact in facts]


def _measured(machine: MeasuredMachine) -> list[Fact]:
    return [
        Fact("tokens and seconds", "counted and timed", "measured", "the meter, on this machine"),
        Fact("FLOPs", "of the kernels and shapes that ran", "measured", "PyTorch's counter; the engine's shapes"),
        Fact("bytes", "of the tensors that ran", "estimated", "tensors' sizes, as no counter of traffic is read"),
        _joules(machine.found),
    ]


def _money(found: FoundMachine) -> list[Fact]:
    rates = found.rates
    price = show_usd(per_s_to_per_hour(rates.usd_per_chip_s))
    how = "assumed" if rates.assumed else "sourced"
    return [Fact("price of a chip-hour", price, how, rates.source, rates.as_of)]


def _size(planned: PlannedJob) -> list[Fact]:
    """What decided the size and the tokens."""
    document, law, job = planned_job_to_json(planned), planned.law, planned.job
    if document["note"]:
        return [Fact("size and tokens", planned.plan.model.name, "assumed", document["note"])]
    facts = [Fact("size and tokens", law.name, "sourced", f"{law.source}; extrapolated far below its range")]
    if job.data.modality is not Modality.TEXT:
        return facts
    per_token, tokenising = f"{bytes_per_token(job):g}", show_bytes(PREPARE_BYTES_PER_S) + "/s"
    return [
        *facts,
        Fact("planned bytes per token", per_token, "assumed", "the tokenizer does not exist yet"),
        Fact("speed of tokenising", tokenising, "assumed", "not measured before the plan"),
    ]


def _forecast(machine: MeasuredMachine, startup_s: float) -> list[Fact]:
    efficiency = machine.spec.efficiency
    return [
        Fact("speed of operations", "timed one by one before the plan", efficiency.source.value, "this machine"),
        _error("training", training_log_sigma(machine.spec), machine.spec.experience.training),
        _error("serving", serving_log_sigma(machine.spec), machine.spec.experience.inference),
        Fact("streaming a token", show_seconds(STREAM_S_PER_TOKEN), "assumed", "host work beside the engine's steps"),
        Fact("server start and stop", show_seconds(startup_s), "assumed", "planned as idle"),
        Fact("life of the model", "constant demand and prices", "assumed", "growth and price decline left out"),
        Fact("what is on neither bill", NOT_BILLED, "given", "some seconds before and between the jobs"),
    ]


def _error(job: str, log_sigma: float, learned: JobExperience | None) -> Fact:
    what, value = f"forecast error, {job}", f"log-normal, sigma {log_sigma:.2g}"
    if learned is None:
        return Fact(what, value, "assumed", "until runs here calibrate it: `twobills ledger calibrate`")
    return Fact(what, value, "estimated", f"calibrated on {learned.n_runs} runs of this machine")


def _joules(found: FoundMachine) -> Fact:
    power = found.power_reader()
    if power.stamp is Stamp.DECLARED:
        return Fact("joules", power.name, power.stamp.value, found.chip.cited_source, found.chip.as_of)
    return Fact("joules", power.name, power.stamp.value, "a hardware counter of this machine")
