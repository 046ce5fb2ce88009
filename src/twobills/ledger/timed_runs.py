"""What each finished run of the ledger took, part by part, beside what was forecast for the work that it did.

The forecast is the bare one, of counted work at measured rates: where a plan was already calibrated on earlier runs,
its factors are taken out again, so that all runs say the same thing about the same forecast. Left out are runs that
were not done, jobs without a plan (``serve`` alone, the load being unknown) and training runs of versions that
did not yet keep the seconds of the steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

from twobills.ledger.record import Outcome, RecordKind
from twobills.ledger.store import Ledger
from twobills.money.bill import Bill
from twobills.specs.experience import JobExperience, Part
from twobills.usage import Job, Phase, PhaseUsage

Z95 = NormalDist().inv_cdf(0.95)
_ROUNDING_S = 1e-6
_STATED: Mapping[Job, set[str]] = {
    Job.TRAINING: {"wall_s", "n_steps", "step_s", "tokens_per_s"},
    Job.INFERENCE: {"wall_s"},
}
"""What a stored plan must say to be compared; other programs may keep plans of another form."""


class Machine(NamedTuple):
    """What makes two runs' machines the same: the device's own name, the catalogue's chip and how many."""

    name: str
    chip: str
    n_chips: int

    def __str__(self) -> str:
        return f"{self.n_chips} x {self.chip} ({self.name})"


class Seconds(NamedTuple):
    """Wall seconds of one part, for the work that was done."""

    forecast: float
    """Without any calibration."""
    measured: float


class TimedRun(NamedTuple):
    """One job of one run."""

    run_id: str
    at: str
    job: Job
    machine: Machine
    parts: Mapping[Part, Seconds]
    planned_s: float
    """Of the whole job as its plan said, calibrated or not, for the work that was planned."""
    assumed_log_sigma: float
    """Spread that was assumed for the bare forecast."""

    @property
    def measured_s(self) -> float:
        """The whole job."""
        return sum(part.measured for part in self.parts.values())

    def forecast_s(self, slower: Mapping[Part, float]) -> float:
        """What the whole job was forecast to take, each part so many times longer."""
        return sum(slower.get(part, 1.0) * seconds.forecast for part, seconds in self.parts.items())


def timed_runs(ledger: Ledger) -> list[TimedRun]:
    """All that can be compared, the oldest first."""
    found = []
    for run_id in reversed(ledger.run_ids()):
        if ledger.outcome(run_id) is Outcome.DONE:
            found += _of_run(ledger, run_id)
    return found


def _of_run(ledger: Ledger, run_id: str) -> list[TimedRun]:
    specs = {Job(plan.body["job"]): plan.body["spec"] for plan in ledger.records(run_id, RecordKind.PLAN)}
    machine = _machine(specs)
    if machine is None:
        return []
    planned, measured, steps = ledger.planned_bills(run_id), ledger.measured_bills(run_id), _steps(ledger, run_id)
    found = []
    for job in (job for job in Job if job in specs and job in measured):
        plan = specs[job].get("training", {}) if job is Job.TRAINING else specs[job]
        if not plan.keys() >= _STATED[job]:
            continue
        bills = (planned[job], measured[job], machine.n_chips)
        parts = _inference_parts(*bills) if job is Job.INFERENCE else _training_parts(*bills, plan, steps)
        if not (parts := _done(parts)):
            continue
        learned = JobExperience.from_json(plan["calibration"]) if plan.get("calibration") else None
        found.append(
            TimedRun(
                run_id=run_id,
                at=ledger.started(run_id).at,
                job=job,
                machine=machine,
                parts=_bare(parts, learned),
                planned_s=plan["wall_s"]["value"],
                assumed_log_sigma=learned.assumed_log_sigma if learned else _log_sigma(plan["wall_s"]),
            )
        )
    return found


def _machine(specs: Mapping[Job, Mapping[str, Any]]) -> Machine | None:
    """The machine that the run's plans name, in either of them."""
    found: Mapping[str, Any] = next((spec["machine"] for spec in specs.values() if "machine" in spec), {})
    return Machine(*(found[key] for key in Machine._fields)) if found.keys() >= set(Machine._fields) else None


def _steps(ledger: Ledger, run_id: str) -> Mapping[str, Any]:
    """What the run kept of its training steps: tokens and seconds; empty if it kept nothing."""
    results = [record.body for record in ledger.records(run_id, RecordKind.RESULT)]
    return next((result["training"] for result in results if "training" in result), {})


def _training_parts(
    planned: Bill, measured: Bill, n_chips: int, plan: Mapping[str, Any], steps: Mapping[str, Any]
) -> dict[Part, Seconds]:
    if not steps:
        return {}
    pretrain_p, pretrain_m = planned.line(Phase.PRETRAIN).usage, measured.line(Phase.PRETRAIN).usage
    return {
        Part.PREPARE: Seconds(
            pretrain_p.chip_s / n_chips - plan["n_steps"] * plan["step_s"],
            pretrain_m.chip_s / n_chips - steps["wall_s"],
        ),
        Part.STEP: Seconds(steps["n_tokens"] / plan["tokens_per_s"], steps["wall_s"]),
        Part.EVALUATE: _of_phase(Phase.EVALUATE, planned, measured, n_chips),
    }


def _inference_parts(planned: Bill, measured: Bill, n_chips: int) -> dict[Part, Seconds]:
    phases = {Part.PREFILL: Phase.PREFILL, Part.DECODE: Phase.DECODE, Part.IDLE: Phase.IDLE}
    return {part: _of_phase(phase, planned, measured, n_chips) for part, phase in phases.items()}


def _of_phase(phase: Phase, planned: Bill, measured: Bill, n_chips: int) -> Seconds:
    """Planned seconds for each token times the tokens that came; of a phase without tokens the seconds as planned."""
    used_p, used_m = planned.line(phase).usage, measured.line(phase).usage
    return Seconds(_work_ratio(used_p, used_m) * used_p.chip_s / n_chips, used_m.chip_s / n_chips)


def _work_ratio(planned: PhaseUsage, measured: PhaseUsage) -> float:
    return measured.tokens / planned.tokens if planned.tokens else 1.0


def _bare(parts: Mapping[Part, Seconds], learned: JobExperience | None) -> dict[Part, Seconds]:
    """The factors of an earlier calibration taken out of the forecasts."""
    slower = learned.slower if learned else {}
    return {part: Seconds(s.forecast / slower.get(part, 1.0), s.measured) for part, s in parts.items()}


def _done(parts: Mapping[Part, Seconds]) -> dict[Part, Seconds]:
    """The parts that were both planned and done; what is left of a difference by rounding is neither."""
    return {part: seconds for part, seconds in parts.items() if min(seconds) > _ROUNDING_S}


def _log_sigma(interval: Mapping[str, float]) -> float:
    return math.log(interval["p95"] / interval["value"]) / Z95
