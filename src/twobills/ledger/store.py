"""The ledger's file: one append-only SQLite table, durable at every commit.

WAL with ``synchronous=FULL``: a bill that was written survives a power cut, and a server and a trainer may write at
the same time. Triggers refuse to change or delete a record, from whatever program, and a second plan for the same
job of the same run is refused by an index.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twobills.errors import LedgerError, RequestError
from twobills.ledger.record import Outcome, Record, RecordKind
from twobills.money.bill import Bill, price
from twobills.money.rates import Rates
from twobills.usage import Job, Usage

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    at TEXT NOT NULL,
    body TEXT NOT NULL CHECK (json_valid(body))
) STRICT;
CREATE INDEX IF NOT EXISTS records_by_run ON records (run_id, kind);
CREATE UNIQUE INDEX IF NOT EXISTS one_plan_per_job
    ON records (run_id, json_extract(body, '$.job')) WHERE kind = 'plan';
CREATE TRIGGER IF NOT EXISTS records_are_never_changed BEFORE UPDATE ON records
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS records_are_never_deleted BEFORE DELETE ON records
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


class Ledger:
    """Reads and appends records. Raises LedgerError where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._connect() as connection:
            connection.executescript(_SCHEMA)

    def start(self, command: str, body: Mapping[str, Any]) -> str:
        """Opens a run and returns its id: the date and a few random letters."""
        run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
        self.append(run_id, RecordKind.STARTED, {"command": command, **body})
        return run_id

    def plan(self, run_id: str, bill: Bill, spec: Mapping[str, Any]) -> None:
        """Stores a predicted bill. Raises LedgerError if this run already has one for that job."""
        self.append(run_id, RecordKind.PLAN, {"job": bill.job.value, "bill": bill.to_json(), "spec": spec})

    def go_on(self, run_id: str, body: Mapping[str, Any]) -> None:
        """Another process goes on with a run. Raises RequestError for an unknown one."""
        self.append(run_id, RecordKind.STARTED, {"command": self.started(run_id).body["command"], **body})

    def reading(self, run_id: str, usage: Usage, rates: Rates, beside: Mapping[str, Any] | None = None) -> None:
        """Adds what was measured since the last reading; an empty one is not worth a line.

        ``beside`` says more: which process's how-manieth reading it is, how far training was.
        """
        if usage.phases:
            body = {"usage": usage.to_json(), "rates": rates.to_json(), **(beside or {})}
            self.append(run_id, RecordKind.READING, body)

    def result(self, run_id: str, body: Mapping[str, Any]) -> None:
        """Adds what came of the run."""
        self.append(run_id, RecordKind.RESULT, body)

    def end(self, run_id: str, outcome: Outcome, reason: str = "") -> None:
        """Closes a run."""
        self.append(run_id, RecordKind.ENDED, {"outcome": outcome.value, "reason": reason})

    def append(self, run_id: str, kind: RecordKind, body: Mapping[str, Any]) -> None:
        """Adds one record and returns when it is on disk."""
        row = (run_id, kind.value, datetime.now(UTC).isoformat(timespec="milliseconds"), json.dumps(body))
        with self._connect() as connection, connection:
            connection.execute("INSERT INTO records (run_id, kind, at, body) VALUES (?, ?, ?, ?)", row)

    def records(self, run_id: str, *kinds: RecordKind) -> list[Record]:
        """A run's records in the order they were written. Raises RequestError for an unknown run."""
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT run_id, kind, at, body FROM records WHERE run_id = ? ORDER BY seq", (run_id,)
            ).fetchall()
        if not rows:
            raise RequestError(f"run {run_id!r}: not in the ledger {self.path}; `twobills ledger list` shows the runs")
        found = [_record(row) for row in rows]
        return [record for record in found if not kinds or record.kind in kinds]

    def calibrations(self) -> list[Record]:
        """What the runs taught, in the order it was learned; the newest of a machine is in force."""
        query = "SELECT run_id, kind, at, body FROM records WHERE kind = ? ORDER BY seq"
        with self._connect() as connection:
            return [_record(row) for row in connection.execute(query, (RecordKind.CALIBRATION.value,))]

    def run_ids(self) -> list[str]:
        """All runs, the newest first."""
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT run_id FROM records WHERE kind != ? GROUP BY run_id ORDER BY min(seq) DESC",
                (RecordKind.CALIBRATION.value,),
            ).fetchall()
        return [run_id for (run_id,) in rows]

    def resolve(self, prefix: str) -> str:
        """The run whose id begins or ends so, or the newest for ``last``. Raises RequestError if none or several."""
        ids = self.run_ids()
        if prefix == "last" and ids:
            return ids[0]
        matches = [run_id for run_id in ids if run_id.startswith(prefix) or run_id.endswith(prefix)]
        if len(matches) != 1:
            found = "matches no run" if not matches else f"is ambiguous, it matches {len(matches)} runs"
            raise RequestError(f"run {prefix!r}: {found} of the ledger {self.path}; `twobills ledger list` shows them")
        return matches[0]

    def started(self, run_id: str) -> Record:
        """How a run began."""
        return self.records(run_id, RecordKind.STARTED)[0]

    def outcome(self, run_id: str) -> Outcome:
        """How a run ended, or that no end was recorded since it was last begun or gone on with."""
        last = self.records(run_id, RecordKind.STARTED, RecordKind.ENDED)[-1]
        return Outcome(last.body["outcome"]) if last.kind is RecordKind.ENDED else Outcome.RUNNING

    def planned_bills(self, run_id: str) -> dict[Job, Bill]:
        """The plans as they were stored."""
        plans = self.records(run_id, RecordKind.PLAN)
        return {Job(plan.body["job"]): Bill.from_json(plan.body["bill"]) for plan in plans}

    def measured_bills(self, run_id: str) -> dict[Job, Bill]:
        """The sums of the readings, priced at the rates of the last reading of each job."""
        usages: dict[Job, Usage] = {}
        rates: dict[Job, Rates] = {}
        for reading in self.records(run_id, RecordKind.READING):
            usage = Usage.from_json(reading.body["usage"])
            usages[usage.job] = usages[usage.job] + usage if usage.job in usages else usage
            rates[usage.job] = Rates.from_json(reading.body["rates"])
        return {job: price(usage, rates[job]) for job, usage in usages.items()}

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=30)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
        except sqlite3.IntegrityError as error:
            raise LedgerError(f"{self.path}: refused, a stored record is never changed ({error})") from None
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"ledger {self.path}: cannot be used ({error}); choose another with --ledger") from None


def _record(row: tuple[str, str, str, str]) -> Record:
    run_id, kind, at, body = row
    return Record(run_id=run_id, kind=RecordKind(kind), at=at, body=json.loads(body))
