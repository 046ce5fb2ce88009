"""Keeping a run's account in the ledger: opened before the work, fed while it goes on, closed however it ends.

A reading is written every few seconds and once at the end, also after Ctrl-C or an error, so what was spent is in
the ledger even if the process is killed; at most the seconds since the last reading are lost, and with a journal
only the twentieth of a second since its last page. A run that was stopped or killed is gone on with under its own id.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from twobills.errors import BudgetError, LedgerError
from twobills.ledger.journal import WRITE_EVERY_S, Journal
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.meter.environment import environment
from twobills.meter.meter import Meter
from twobills.money.rates import Rates

READING_EVERY_S = 5.0
READING_EVERY_FRAC = 1 / 200
"""With a journal readings need not be frequent: after a day one in seven minutes."""


@contextmanager
def account(ledger: Ledger, command: str, body: Mapping[str, Any], *, run_id: str | None = None) -> Iterator[str]:
    """Opens a run, or goes on with ``run_id``, and yields its id; records how it ended.

    That is: done, interrupted, stopped by a budget, or failed.
    """
    told = {**body, "environment": environment()}
    if run_id is None:
        run_id = ledger.start(command, told)
    else:
        ledger.go_on(run_id, told)
    try:
        yield run_id
    except KeyboardInterrupt:
        ledger.end(run_id, Outcome.INTERRUPTED, "stopped by the user")
        raise
    except BudgetError as error:
        ledger.end(run_id, Outcome.STOPPED, str(error))
        raise
    except BaseException as error:
        ledger.end(run_id, Outcome.FAILED, f"{type(error).__name__}: {error}")
        raise
    ledger.end(run_id, Outcome.DONE)


class Readings:
    """What a meter reads, written to the ledger."""

    def __init__(self, ledger: Ledger, run_id: str, meter: Meter, rates: Rates, journal: Journal | None = None) -> None:
        self._ledger, self._run_id, self._meter, self._rates = ledger, run_id, meter, rates
        self._journal, self._n = journal, 0
        self._lock = threading.Lock()
        self.beside: Mapping[str, Any] = {}
        """What every reading says besides: how far training is."""

    def flush(self) -> None:
        """Writes what was measured until now. Raises LedgerError, and keeps it for the next, if it cannot."""
        with self._lock:
            self._meter.tick()
            taken = self._meter.take()
            mark = {"process": self._journal.process, "n": self._n} if self._journal else {}
            try:
                self._ledger.reading(self._run_id, taken, self._rates, {**self.beside, **mark})
            except LedgerError:
                self._meter.put_back(taken)
                raise
            self._n += 1

    def jot(self) -> None:
        """Writes the journal's page."""
        if self._journal:
            with self._lock:
                self._meter.catch_up()
                self._journal.write(self._n, self._meter.untaken())


@contextmanager
def readings(
    ledger: Ledger, run_id: str, meter: Meter, rates: Rates, journal: Journal | None = None
) -> Iterator[Readings]:
    """Writes the meter's readings to the ledger while the body runs, and the last one when it ends.

    A reading that cannot be written is tried again with the next; only the last one's failure is raised.
    """
    done, written = threading.Event(), Readings(ledger, run_id, meter, rates, journal)

    def keep_writing() -> None:
        start_s = next_s = time.monotonic()
        next_s += READING_EVERY_S
        while not done.wait(WRITE_EVERY_S if journal else READING_EVERY_S):
            written.jot()
            if (now_s := time.monotonic()) >= next_s:
                with suppress(LedgerError):
                    written.flush()
                next_s = now_s + max(READING_EVERY_S, READING_EVERY_FRAC * (now_s - start_s) if journal else 0.0)

    writer = threading.Thread(target=keep_writing, name="ledger readings", daemon=True)
    writer.start()
    try:
        yield written
    finally:
        done.set()
        writer.join()
        meter.rest()
        written.flush()
