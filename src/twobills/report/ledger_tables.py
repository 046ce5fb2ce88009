"""The ledger's runs, and what they taught the forecasts, as documents, sentences and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twobills.ledger.reconcile import reconcile
from twobills.ledger.store import Ledger
from twobills.report.tables import Table
from twobills.specs.experience import Part
from twobills.units import show_frac, show_seconds, show_usd, significant
from twobills.usage import Job

Document = Mapping[str, Any]
_PART_WORDS: Mapping[str, str] = {
    Part.PREPARE: "preparing the text",
    Part.STEP: "the steps",
    Part.EVALUATE: "checking on unseen text",
    Part.PREFILL: "reading prompts",
    Part.DECODE: "writing answers",
    Part.IDLE: "starting and waiting",
}


def run_rows(ledger: Ledger) -> list[dict[str, Any]]:
    """One row per run: when, what, how it ended, what it cost (measured)."""
    rows = []
    for run_id in ledger.run_ids():
        bills = ledger.measured_bills(run_id)
        started = ledger.started(run_id)
        rows.append(
            {
                "run_id": run_id,
                "at": started.at,
                "command": started.body["command"],
                "name": started.body.get("name"),
                "outcome": ledger.outcome(run_id).value,
                **{f"{job.value}_usd": bills[job].total_usd if job in bills else None for job in Job},
            }
        )
    return rows


def runs_table(rows: list[dict[str, Any]]) -> Table:
    """The rows of ``run_rows`` for people."""
    columns = ("Run", "Command", "Ended", "Training", "Inference")
    cells: list[tuple[str, ...]] = [
        (row["run_id"], _named(row), row["outcome"], _usd(row["training_usd"]), _usd(row["inference_usd"]))
        for row in rows
    ]
    return Table("Runs, the newest first", columns, cells, n_text_columns=3)


def run_document(ledger: Ledger, run: str) -> dict[str, Any]:
    """Everything about one run; ``run`` is an id, a part of one, or ``last``."""
    run_id = ledger.resolve(run)
    started = ledger.started(run_id)
    return {
        "run_id": run_id,
        "at": started.at,
        "command": started.body["command"],
        "outcome": ledger.outcome(run_id).value,
        "planned": {job.value: bill.to_json() for job, bill in ledger.planned_bills(run_id).items()},
        "measured": {job.value: bill.to_json() for job, bill in ledger.measured_bills(run_id).items()},
        "records": [
            {"kind": record.kind.value, "at": record.at, "body": record.body} for record in ledger.records(run_id)
        ],
    }


def gaps_document(ledger: Ledger, run: str) -> dict[str, Any]:
    """Work, speed and price gap of each job that has both a plan and a meter."""
    run_id = ledger.resolve(run)
    planned, measured = ledger.planned_bills(run_id), ledger.measured_bills(run_id)
    gaps = {
        job.value: reconcile(planned[job], measured[job]).to_json() for job in Job if job in planned and job in measured
    }
    return {"run_id": run_id, "gaps": gaps}


def calibration_sentence(machine: Document, job: str) -> str:
    """What the runs of one machine said of one job's forecasts, and how much better those get."""
    learned = machine["jobs"][job]
    before, after = learned["before"], learned["after"]
    factors = ", ".join(f"{_PART_WORDS[part]} {significant(f, 2)}" for part, f in learned["slower"].items())
    held = [round(learned["n_runs"] * score["coverage_90"]) for score in (before, after)]
    return (
        f"This corrects {job} forecasts for {_machine(machine['machine'])} by {learned['n_runs']} of its runs, in "
        f"which parts took so many times as long as forecast: {factors}. Forecast by the other runs, each run is "
        f"missed by {show_frac(after['median_abs_rel_error'])} at the median instead of "
        f"{show_frac(before['median_abs_rel_error'])}; the 5-95 % interval holds {held[1]} of {learned['n_runs']} "
        f"instead of {held[0]} (its sigma is now {significant(learned['log_sigma'], 2)}, the assumed one was "
        f"{significant(learned['assumed_log_sigma'], 2)})."
    )


def calibration_table(machine: Document, job: str) -> Table:
    """Run by run: what was measured, the forecast before, and the forecast by the other runs."""
    columns = ("Run", "Measured", "Forecast before", "Off before", "Forecast after", "Off after")
    rows: list[tuple[str, ...]] = [
        (
            run["run_id"],
            show_seconds(run["measured_s"]),
            *(show_seconds(run["before_s"]), _off(run["before_rel_error"], run["covered_before"])),
            *(show_seconds(run["after_s"]), _off(run["after_rel_error"], run["covered_after"])),
        )
        for run in machine["jobs"][job]["runs"]
    ]
    return Table(f"{job.capitalize()}: forecasts for the work that was done (* outside its interval)", columns, rows)


def too_few_sentence(machine: Document) -> str:
    """Which jobs of a machine are not calibrated yet; empty if both are."""
    few = [f"{job} has {n}" for job, n in machine["too_few"].items()]
    if not few:
        return ""
    counts = " and ".join(few)
    return (
        f"Not calibrated on {_machine(machine['machine'])}: {counts} of the {machine['min_runs']} finished runs needed."
    )


def forgotten_sentence(document: Document) -> str:
    """Which machines are back to assumed errors."""
    names = ", ".join(_machine(machine) for machine in document["forgotten"])
    return f"Forgotten for {names}: the next plan is made without the runs. They stay in the ledger."


def _machine(machine: Document) -> str:
    return f"{machine['n_chips']} x {machine['chip']} ({machine['name']})"


def _off(rel_error: float, covered: bool) -> str:
    return f"{'+' if rel_error > 0 else ''}{show_frac(rel_error)}{'' if covered else ' *'}"


def _named(row: Document) -> str:
    """The command; of a loop that was only metered, what its owner calls it too."""
    return f"{row['command']}: {row['name']}" if row.get("name") else str(row["command"])


def _usd(usd: float | None) -> str:
    return "–" if usd is None else show_usd(usd)
