"""``twobills ledger calibrate``: the runs of a machine correct the forecasts for it, shown before and after.

Every machine of the ledger that has enough runs is calibrated, each from its own only; a plan takes that of the machine
it is made on. PyTorch is not needed, so this file does not ask which machine that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median
from typing import Any

from twobills.errors import LedgerError
from twobills.ledger.calibration import MAX_RUNS, MIN_RUNS, HeldOut, hold_out, keep, kept, learn
from twobills.ledger.store import Ledger
from twobills.ledger.timed_runs import Machine, TimedRun, timed_runs
from twobills.report.documents import SCHEMA
from twobills.specs.experience import Experience, JobExperience
from twobills.usage import Job


def calibrate_machines(ledger: Ledger) -> dict[str, Any]:
    """Learns from all runs, keeps it in the ledger and returns the document of ``--json``.

    Raises LedgerError if no machine has ``MIN_RUNS`` runs of a job that can be compared.
    """
    runs = timed_runs(ledger)
    if not runs:
        raise LedgerError(
            f"ledger {ledger.path}: holds no finished run with a plan and a meter; `twobills run` and `twobills train` "
            f"make them, and {MIN_RUNS} calibrate"
        )
    machines = dict.fromkeys(run.machine for run in runs)
    documents = [_calibrate(ledger, machine, [r for r in runs if r.machine == machine]) for machine in machines]
    if not any(document["jobs"] for document in documents):
        raise LedgerError(_too_few(documents))
    return {"schema": SCHEMA, "ledger": str(ledger.path), "machines": documents}


def forget_calibrations(ledger: Ledger) -> dict[str, Any]:
    """Puts every machine's forecasts back to what is assumed. Raises LedgerError if none is calibrated."""
    machines = list(kept(ledger))
    if not machines:
        raise LedgerError(f"ledger {ledger.path}: no machine is calibrated, so there is nothing to forget")
    for machine in machines:
        keep(ledger, machine, Experience(), [])
    return {"schema": SCHEMA, "ledger": str(ledger.path), "forgotten": [machine._asdict() for machine in machines]}


def experience_of(ledger: Ledger, machine: Machine) -> Experience:
    """What is in force for this machine; nothing learned if its runs have not calibrated it."""
    return kept(ledger).get(machine, Experience())


def _calibrate(ledger: Ledger, machine: Machine, runs: Sequence[TimedRun]) -> dict[str, Any]:
    of_job = {job: [run for run in runs if run.job is job][-MAX_RUNS:] for job in Job}
    enough = {job: found for job, found in of_job.items() if len(found) >= MIN_RUNS}
    learned = {job: learn(found) for job, found in enough.items()}
    if learned:
        run_ids = dict.fromkeys(run.run_id for found in enough.values() for run in found)
        experience = Experience(training=learned.get(Job.TRAINING), inference=learned.get(Job.INFERENCE))
        keep(ledger, machine, experience, list(run_ids))
    return {
        "machine": machine._asdict(),
        "jobs": {job.value: _job_to_json(learned[job], hold_out(found)) for job, found in enough.items()},
        "too_few": {job.value: len(found) for job, found in of_job.items() if job not in enough},
        "min_runs": MIN_RUNS,
    }


def _job_to_json(learned: JobExperience, held_out: Sequence[HeldOut]) -> dict[str, Any]:
    before = [one.before_s / one.run.measured_s - 1 for one in held_out]
    after = [one.after_s / one.run.measured_s - 1 for one in held_out]
    return {
        **learned.to_json(),
        "before": {**_score(before), "coverage_90": mean(one.covered_before for one in held_out)},
        "after": {
            **_score(after),
            "coverage_90": mean(one.covered_after for one in held_out),
            "how": "each run forecast by a calibration on the other runs only",
        },
        "runs": [
            {
                "run_id": one.run.run_id,
                "at": one.run.at,
                "planned_s": one.run.planned_s,
                "measured_s": one.run.measured_s,
                "before_s": one.before_s,
                "before_rel_error": error_before,
                "after_s": one.after_s,
                "after_rel_error": error_after,
                "after_log_sigma": one.others.log_sigma,
                "covered_before": one.covered_before,
                "covered_after": one.covered_after,
            }
            for one, error_before, error_after in zip(held_out, before, after, strict=True)
        ],
    }


def _score(errors: Sequence[float]) -> dict[str, float]:
    """Of forecast / measured - 1."""
    return {"median_abs_rel_error": median(abs(error) for error in errors), "bias": median(errors)}


def _too_few(documents: Sequence[dict[str, Any]]) -> str:
    best = max(documents, key=lambda document: max(document["too_few"].values()))
    counts = " and ".join(f"{n} of {job}" for job, n in best["too_few"].items())
    return (
        f"{Machine(**best['machine'])}: {counts} finished with a plan and a meter, and {MIN_RUNS} of a job are needed; "
        "`twobills run` adds one of each"
    )
