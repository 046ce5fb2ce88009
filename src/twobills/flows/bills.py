"""A run's measured bills beside their plans, read back from the ledger, as a command's JSON document has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twobills.ledger.reconcile import reconcile
from twobills.ledger.store import Ledger
from twobills.plan.interval import Interval
from twobills.usage import Job


def bills_to_json(ledger: Ledger, run_id: str, intervals: Mapping[Job, Interval]) -> dict[str, Any]:
    """For each job of ``intervals``: measured, predicted with its interval (USD), and the gaps between them."""
    planned, measured = ledger.planned_bills(run_id), ledger.measured_bills(run_id)
    return {
        job.value: {
            "measured": measured[job].to_json(),
            "predicted": planned[job].to_json(),
            "predicted_interval": interval.to_json(),
            "gaps": reconcile(planned[job], measured[job]).to_json(),
        }
        for job, interval in intervals.items()
    }
