"""Keeping a run's account in the ledger: opened before the work, fed while it goes on, closed however it ends.

A reading is written every few seconds and once at the end, also after Ctrl-C or an error, so what was spent is in
the ledger even if the process is killed; at most the seconds since the last reading are lost.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from twobills.errors import LedgerError
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.meter.environment import environment
from twobills.meter.meter import Meter
from twobills.money.rates import Rates

READING_EVERY_S = 5.0


@contextmanager
def account(ledger: Ledger, command: str, body: Mapping[str, Any]) -> Iterator[str]:
    """Opens a run and yields its id; records whether it was done, interrupted or failed."""
    run_id = ledger.start(command, {**body, "environment": environment()})
    try:
        yield run_id
    except KeyboardInterrupt:
        ledger.end(run_id, Outcome.INTERRUPTED, "stopped by the user")
        raise
    except BaseException as error:
        ledger.end(run_id, Outcome.FAILED, f"{type(error).__name__}: {error}")
        raise
    ledger.end(run_id, Outcome.DONE)


@contextmanager
def readings(ledger: Ledger, run_id: str, meter: Meter, rates: Rates) -> Iterator[None]:
    """Writes the meter's readings to the ledger while the body runs, and the last one when it ends.

    A reading that cannot be written is tried again with the next; only the last one's failure is raised.
    """
    done = threading.Event()

    def keep_writing() -> None:
        while not done.wait(READING_EVERY_S):
            meter.tick()
            with suppress(LedgerError):
                _write(ledger, run_id, meter, rates)

    writer = threading.Thread(target=keep_writing, name="ledger readings", daemon=True)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()
        meter.rest()
        _write(ledger, run_id, meter, rates)


def _write(ledger: Ledger, run_id: str, meter: Meter, rates: Rates) -> None:
    taken = meter.take()
    try:
        ledger.reading(run_id, taken, rates)
    except LedgerError:
        meter.put_back(taken)
        raise
