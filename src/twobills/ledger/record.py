"""What the ledger remembers: runs, each a sequence of records that are only ever added.

A run starts, gets its plan, gives readings while it works, and ends; its measured usage is the sum of its readings,
so a run that was killed has still been billed up to its last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class RecordKind(StrEnum):
    """What a record says."""

    STARTED = "started"
    """The command, its settings and the environment; again for every process that goes on with the run."""
    PLAN = "plan"
    """A predicted bill, stored before the first step; one per job, unchangeable."""
    READING = "reading"
    """What a meter measured since the reading before."""
    RESULT = "result"
    """What came of it: quality, digest, requests."""
    ENDED = "ended"
    """How the run ended."""
    CALIBRATION = "calibration"
    """What the runs of a machine taught its forecasts; belongs to no run, and the newest is in force."""


class Outcome(StrEnum):
    """How a run ended."""

    DONE = "done"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    STOPPED = "stopped"
    """A budget ended it; its state is kept."""
    RUNNING = "running"
    """No end was recorded: still running, or killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of the ledger."""

    run_id: str
    kind: RecordKind
    at: str
    """UTC, ISO 8601."""
    body: Mapping[str, Any]
