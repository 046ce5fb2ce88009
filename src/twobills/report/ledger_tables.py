"""The ledger's runs as documents and tables."""

from __future__ import annotations

from typing import Any

from twobills.ledger.reconcile import reconcile
from twobills.ledger.store import Ledger
from twobills.report.tables import Table
from twobills.units import show_usd
from twobills.usage import Job


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
                "outcome": ledger.outcome(run_id).value,
                **{f"{job.value}_usd": bills[job].total_usd if job in bills else None for job in Job},
            }
        )
    return rows


def runs_table(rows: list[dict[str, Any]]) -> Table:
    """The rows of ``run_rows`` for people."""
    columns = ("Run", "Command", "Ended", "Training", "Inference")
    cells: list[tuple[str, ...]] = [
        (row["run_id"], row["command"], row["outcome"], _usd(row["training_usd"]), _usd(row["inference_usd"]))
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


def _usd(usd: float | None) -> str:
    return "–" if usd is None else show_usd(usd)
