"""A run's account survives what happens to it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.machines import RATES
from twobills.errors import LedgerError
from twobills.flows import accounts
from twobills.flows.accounts import account, readings
from twobills.ledger.record import RecordKind
from twobills.ledger.store import Ledger
from twobills.meter.meter import Meter
from twobills.meter.power import DeclaredPower
from twobills.usage import Job, Phase


@pytest.fixture
def meter() -> Meter:
    return Meter(Job.TRAINING, n_chips=2, power=DeclaredPower(4.0, 2), resting=Phase.PRETRAIN)


def test_a_reading_that_could_not_be_written_is_written_with_the_next(
    ledger: Ledger, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, failures = Ledger.reading, iter([True, True])

    def fail_twice(self: Ledger, *args: Any) -> None:
        if next(failures, False):
            raise LedgerError("database is locked")
        write(self, *args)

    monkeypatch.setattr(Ledger, "reading", fail_twice)
    monkeypatch.setattr(accounts, "READING_EVERY_S", 0.02)
    with account(ledger, "train", {}) as run_id, readings(ledger, run_id, meter, RATES):
        for _ in range(10):
            with meter.phase(Phase.PRETRAIN) as tally:
                time.sleep(0.02)
                tally.add(tokens=1, flops=1, bytes=1)
    bill = ledger.measured_bills(run_id)[Job.TRAINING]
    assert bill.usage.total.chip_s == pytest.approx(meter.usage().total.chip_s)
    assert bill.usage.total.tokens == 10


def test_a_long_phase_is_in_the_ledger_before_it_ends(
    ledger: Ledger, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "READING_EVERY_S", 0.02)
    with account(ledger, "train", {}) as run_id, readings(ledger, run_id, meter, RATES), meter.phase(Phase.EVALUATE):
        deadline = time.monotonic() + 20
        while not ledger.measured_bills(run_id) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert ledger.measured_bills(run_id)[Job.TRAINING].usage.phases[Phase.EVALUATE].chip_s > 0


def test_a_run_begins_with_its_settings_and_environment(ledger: Ledger) -> None:
    with account(ledger, "train", {"minutes": 2}) as run_id:
        pass
    (started,) = ledger.records(run_id, RecordKind.STARTED)
    assert started.body["minutes"] == 2
    assert started.body["environment"]["python"]
