from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from twobills.errors import LedgerError, RequestError
from twobills.ledger.record import Outcome, RecordKind
from twobills.ledger.store import Ledger
from twobills.money.bill import price
from twobills.money.rates import Rates
from twobills.usage import Energy, Job, Origin, Phase, PhaseUsage, Usage

RATES = Rates(usd_per_chip_s=0.01, usd_per_j=0, source="a test", as_of="2026-01-01", assumed=True)


def training(chip_s: float, origin: Origin = Origin.MEASURED) -> Usage:
    used = PhaseUsage(tokens=10, chip_s=chip_s, energy=Energy(declared_j=chip_s))
    return Usage(job=Job.TRAINING, origin=origin, phases={Phase.PRETRAIN: used})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "deep" / "ledger.sqlite")


def test_measured_usage_is_the_sum_of_the_readings(ledger: Ledger) -> None:
    run_id = ledger.start("run", {"minutes": 2})
    for chip_s in (1.0, 2.0, 4.0):
        ledger.reading(run_id, training(chip_s), RATES)
    bill = ledger.measured_bills(run_id)[Job.TRAINING]
    assert bill.usage.total.chip_s == 7
    assert bill.total_usd == pytest.approx(0.07)


def test_a_run_without_an_end_still_has_its_bill(ledger: Ledger) -> None:
    run_id = ledger.start("run", {})
    ledger.reading(run_id, training(3), RATES)
    again = Ledger(ledger.path)
    assert again.outcome(run_id) is Outcome.RUNNING
    assert again.measured_bills(run_id)[Job.TRAINING].total_usd == pytest.approx(0.03)
    again.end(run_id, Outcome.INTERRUPTED)
    assert ledger.outcome(run_id) is Outcome.INTERRUPTED


def test_a_plan_is_stored_once_and_for_all(ledger: Ledger) -> None:
    run_id = ledger.start("run", {})
    bill = price(training(5, Origin.PREDICTED), RATES)
    ledger.plan(run_id, bill, {"why": "a test"})
    with pytest.raises(LedgerError, match="never changed"):
        ledger.plan(run_id, bill, {})
    assert ledger.planned_bills(run_id) == {Job.TRAINING: bill}


@pytest.mark.parametrize("statement", ["UPDATE records SET body = '{}'", "DELETE FROM records"])
def test_no_program_changes_the_past(ledger: Ledger, statement: str) -> None:
    ledger.start("run", {})
    connection = sqlite3.connect(ledger.path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


def test_a_commit_is_durable(ledger: Ledger) -> None:
    with ledger._connect() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_several_writers_at_once(ledger: Ledger) -> None:
    run_id = ledger.start("run", {})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: Ledger(ledger.path).reading(run_id, training(1), RATES), range(40)))
    assert ledger.measured_bills(run_id)[Job.TRAINING].usage.total.chip_s == 40


def test_runs_are_found_by_a_part_of_their_id(ledger: Ledger) -> None:
    first, second = ledger.start("run", {}), ledger.start("serve", {})
    assert ledger.run_ids() == [second, first]
    assert ledger.resolve("last") == second
    assert ledger.resolve(first) == first
    assert ledger.resolve(first[-6:]) == first
    with pytest.raises(RequestError, match="no run of the ledger"):
        ledger.resolve("yesterday")
    with pytest.raises(RequestError, match="2 runs"):
        ledger.resolve(first[:4])
    with pytest.raises(RequestError, match="not in the ledger"):
        ledger.records("nobody", RecordKind.PLAN)


def test_a_file_that_is_no_ledger_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("this is not a database, and it is long enough to be taken for one" * 20)
    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger(path)


def test_a_run_that_is_gone_on_with_is_running_again(ledger: Ledger) -> None:
    run_id = ledger.start("train", {"minutes": 2})
    ledger.end(run_id, Outcome.STOPPED, "max_usd")
    assert ledger.outcome(run_id) is Outcome.STOPPED
    ledger.go_on(run_id, {"resumed": True})
    assert ledger.outcome(run_id) is Outcome.RUNNING
    assert ledger.started(run_id).body == {"command": "train", "minutes": 2}
    ledger.end(run_id, Outcome.DONE)
    assert ledger.outcome(run_id) is Outcome.DONE
    with pytest.raises(RequestError, match="not in the ledger"):
        ledger.go_on("nobody", {})


def test_a_reading_says_which_it_is(ledger: Ledger) -> None:
    run_id = ledger.start("train", {})
    ledger.reading(run_id, training(1), RATES, {"process": "p", "n": 0, "step": 7})
    (record,) = ledger.records(run_id, RecordKind.READING)
    assert (record.body["process"], record.body["n"], record.body["step"]) == ("p", 0, 7)
    assert ledger.measured_bills(run_id)[Job.TRAINING].usage == training(1)
