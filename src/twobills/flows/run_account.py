"""Where the bill of a run that is going on is kept: the ledger, and this process's meter."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from twobills.errors import LedgerError
from twobills.flows.accounts import Readings
from twobills.ledger.journal import n_readings
from twobills.ledger.store import Ledger
from twobills.meter.meter import Meter
from twobills.money.bill import price
from twobills.money.rates import Rates
from twobills.usage import Job, Origin, Usage


class RunAccount(NamedTuple):
    """One run's account, as one of its processes sees it."""

    ledger: Ledger
    run_id: str
    meter: Meter
    written: Readings
    rates: Rates

    def spending(self) -> Callable[[], Usage]:
        """What the run has spent in all its processes, at any time; made before this process writes a reading."""
        bills = self.ledger.measured_bills(self.run_id)
        before = bills[Job.TRAINING].usage if Job.TRAINING in bills else Usage(job=Job.TRAINING, origin=Origin.MEASURED)
        return lambda: before + self.meter.usage()

    def settled_readings(self) -> int:
        """How many readings the run has, once all that was metered until now belongs to one.

        What cannot be written now is written later, and counts as after them.
        """
        with suppress(LedgerError):
            self.meter.rest()
            self.written.flush()
        return n_readings(self.ledger, self.run_id)

    def price(self, usage: Usage) -> float:
        """Dollars, at the run's rates."""
        return price(usage, self.rates).total_usd
