"""What a process measured since its last reading, kept where a kill cannot take it: a small file, many times a second.

A reading is a durable commit and comes every few seconds; the journal is one overwritten page of a file, which the
kernel keeps when the process dies. It begins before the meter does, so that a process killed while it still loads its
libraries has a bill too. Whoever goes on with the run ``settle``s the journals of the dead: what their last reading
missed is added to the ledger, once. Each process has a name, and its readings are numbered, so that a reading that was
committed just before the kill is not added again.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from twobills.ledger.record import RecordKind
from twobills.ledger.store import Ledger
from twobills.money.rates import Rates
from twobills.usage import Energy, Job, Origin, Phase, PhaseUsage, Stamp, Usage

WRITE_EVERY_S = 0.05
_PAGE_BYTES = 4096


class Journal:
    """This process's own; use it as a context manager. A process that ends by itself leaves none."""

    def __init__(self, folder: Path, *, age_s: float) -> None:
        self.process = f"{time.time_ns()}-{os.getpid()}"
        self._began_at = time.time() - age_s
        self._path = folder / f"{self.process}.json"
        self._handle: int | None = None
        self._lock, self._metered = threading.Lock(), threading.Event()

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666)
        self.write(0, None)
        threading.Thread(target=self._beat, name="journal", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._metered.set()
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)
            self._path.unlink(missing_ok=True)

    def write(self, n: int, usage: Usage | None) -> None:
        """Says that the process is alive, and what its reading number ``n`` would be; None before it has a meter."""
        if usage:
            self._metered.set()
        page = {"began_at": self._began_at, "alive_at": time.time(), "n": n, "usage": usage and usage.to_json()}
        text = json.dumps(page).encode()
        with self._lock, suppress(OSError):  # a full disk is told by what must be written
            if self._handle is not None:
                os.pwrite(self._handle, text.ljust(_PAGE_BYTES), 0)

    def _beat(self) -> None:
        """Says that the process is alive, until there is a meter that says more."""
        while not self._metered.wait(WRITE_EVERY_S):
            self.write(0, None)


class Chips(NamedTuple):
    """What the dead process held, as far as the one that settles knows: the same machine."""

    n: int
    watts: float | None
    """Of each, as declared."""


def settle(ledger: Ledger, run_id: str, folder: Path, *, mine: str, rates: Rates, chips: Chips) -> None:
    """Adds to a run what dead processes spent and did not commit; ``mine`` is the process that is alive."""
    numbered = {
        (record.body.get("process"), record.body.get("n")) for record in ledger.records(run_id, RecordKind.READING)
    }
    for path in sorted(folder.glob("*.json")):
        if path.stem == mine:
            continue
        page = _read(path)
        if (path.stem, page["n"]) not in numbered:
            usage = Usage.from_json(page["usage"]) if page["usage"] else _unmetered(page, chips)
            ledger.reading(run_id, usage, rates, {"process": path.stem, "n": page["n"], "settled": True})
        path.unlink()


def lose(ledger: Ledger, run_id: str, rates: Rates, *, since: int, step: int) -> None:
    """Moves what was metered after the first ``since`` readings from its phases to ``lost``, by one more reading.

    That work is done again from ``step`` on. It keeps its chip-seconds, joules and FLOPs; its tokens count once only.
    """
    after = [Usage.from_json(record.body["usage"]) for record in ledger.records(run_id, RecordKind.READING)[since:]]
    if not after:
        return
    total = sum(after[1:], after[0])
    phases: dict[Phase, PhaseUsage] = {p: used.scaled(-1.0) for p, used in total.phases.items() if p is not Phase.LOST}
    if phases:
        phases[Phase.LOST] = replace(sum((total.phases[phase] for phase in phases), PhaseUsage()), tokens=0.0)
    moved = Usage(job=total.job, origin=Origin.MEASURED, phases=phases)
    ledger.reading(run_id, moved, rates, {"moved_to": Phase.LOST.value, "step": step})


def n_readings(ledger: Ledger, run_id: str) -> int:
    """How many readings a run has: what a checkpoint remembers of the bill."""
    return len(ledger.records(run_id, RecordKind.READING))


def _read(path: Path) -> Mapping[str, Any]:
    """A journal's page; of one that is torn, how long its process was alive at least."""
    with suppress(ValueError, KeyError):
        page: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if page.keys() >= {"began_at", "alive_at", "n", "usage"}:
            return page
    began_at = int(path.stem.partition("-")[0]) / 1e9
    return {"began_at": began_at, "alive_at": path.stat().st_mtime, "n": -1, "usage": None}


def _unmetered(page: Mapping[str, Any], chips: Chips) -> Usage:
    """The time of a process that died before it had a meter."""
    chip_s = max(0.0, page["alive_at"] - page["began_at"]) * chips.n
    energy = Energy() if chips.watts is None else Energy.of(chips.watts * chip_s, Stamp.DECLARED)
    used = PhaseUsage(chip_s=chip_s, energy=energy)
    return Usage(job=Job.TRAINING, origin=Origin.MEASURED, phases={Phase.LOST: used})
