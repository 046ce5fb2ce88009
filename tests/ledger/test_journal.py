"""What a killed process spent is in the ledger, once, and what was done in vain is called lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.machines import RATES
from twobills.ledger.journal import Chips, Journal, lose, n_readings, settle
from twobills.ledger.record import RecordKind
from twobills.ledger.store import Ledger
from twobills.usage import Energy, Job, Origin, Phase, PhaseUsage, Usage

CHIPS = Chips(2, 4.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def used(chip_s: float, phase: Phase = Phase.PRETRAIN) -> Usage:
    work = PhaseUsage(tokens=10 * chip_s, flops=100 * chip_s, chip_s=chip_s, energy=Energy(declared_j=4 * chip_s))
    return Usage(job=Job.TRAINING, origin=Origin.MEASURED, phases={phase: work})


def phases(ledger: Ledger, run_id: str) -> dict[Phase, PhaseUsage]:
    return dict(ledger.measured_bills(run_id)[Job.TRAINING].usage.phases)


def test_what_a_dead_process_had_not_committed_is_added_once(ledger: Ledger, tmp_path: Path) -> None:
    run_id, folder = ledger.start("train", {}), tmp_path / "processes"
    dead = Journal(folder, age_s=0.0).__enter__()
    ledger.reading(run_id, used(3), RATES, {"process": dead.process, "n": 0})
    dead.write(1, used(2))
    for _ in range(2):
        with Journal(folder, age_s=0.0) as alive:
            settle(ledger, run_id, folder, mine=alive.process, rates=RATES, chips=CHIPS)
    assert phases(ledger, run_id)[Phase.PRETRAIN].chip_s == 5
    assert list(folder.iterdir()) == []


def test_a_reading_that_was_committed_just_before_the_kill_is_not_added_again(ledger: Ledger, tmp_path: Path) -> None:
    run_id, folder = ledger.start("train", {}), tmp_path / "processes"
    dead = Journal(folder, age_s=0.0).__enter__()
    dead.write(0, used(3))
    ledger.reading(run_id, used(3), RATES, {"process": dead.process, "n": 0})
    settle(ledger, run_id, folder, mine="", rates=RATES, chips=CHIPS)
    assert phases(ledger, run_id)[Phase.PRETRAIN].chip_s == 3


def test_a_process_that_died_before_its_meter_is_charged_by_its_life(ledger: Ledger, tmp_path: Path) -> None:
    run_id, folder = ledger.start("train", {}), tmp_path / "processes"
    Journal(folder, age_s=7.0).__enter__()
    settle(ledger, run_id, folder, mine="", rates=RATES, chips=CHIPS)
    lost = phases(ledger, run_id)[Phase.LOST]
    assert lost.chip_s == pytest.approx(2 * 7.0, abs=0.2)
    assert lost.energy.declared_j == pytest.approx(4.0 * lost.chip_s)


def test_a_torn_page_still_says_how_long_its_process_lived(ledger: Ledger, tmp_path: Path) -> None:
    run_id, folder = ledger.start("train", {}), tmp_path / "processes"
    dead = Journal(folder, age_s=0.0).__enter__()
    (path,) = folder.iterdir()
    path.write_text('{"began_at": 1')
    began_s = int(dead.process.partition("-")[0]) / 1e9
    os.utime(path, (began_s + 3, began_s + 3))
    settle(ledger, run_id, folder, mine="", rates=RATES, chips=CHIPS)
    assert phases(ledger, run_id)[Phase.LOST].chip_s == pytest.approx(6.0)


def test_a_killed_process_leaves_its_last_page(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from twobills.ledger.journal import Journal; "
        "from twobills.usage import Energy, Job, Origin, Phase, PhaseUsage, Usage; "
        "of = lambda n: {Phase.PRETRAIN: PhaseUsage(chip_s=n)}; "
        "used = lambda n: Usage(job=Job.TRAINING, origin=Origin.MEASURED, phases=of(n)); "
        "journal = Journal(Path(sys.argv[1]), age_s=0.0).__enter__(); "
        "[journal.write(n, used(n)) for n in range(1, 500)]; os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "p")], check=False)
    assert done.returncode == -signal.SIGKILL
    (path,) = (tmp_path / "p").iterdir()
    page = json.loads(path.read_text())
    assert page["n"] == 499
    assert Usage.from_json(page["usage"]).total.chip_s == 499


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.1, 100), st.sampled_from([Phase.PRETRAIN, Phase.EVALUATE])), min_size=1, max_size=6),
    st.lists(st.integers(0, 6), min_size=1, max_size=3),
)
def test_losing_moves_work_and_changes_no_sum(
    tmp_path: Path, readings: list[tuple[float, Phase]], kills: list[int]
) -> None:
    """However often a run goes back, its chip-seconds, joules and FLOPs are all still there."""
    ledger = Ledger(tmp_path / "many.sqlite")
    run_id = ledger.start("train", {})
    for chip_s, phase in readings:
        ledger.reading(run_id, used(chip_s, phase), RATES)
    total = ledger.measured_bills(run_id)[Job.TRAINING].usage.total
    since = len(readings)
    for kill in kills:  # a later kill may go back further: to the checkpoint before
        since = min(since, kill)
        lose(ledger, run_id, RATES, since=since, step=0)
        kept = readings[:since]
        after = phases(ledger, run_id)
        for phase in (Phase.PRETRAIN, Phase.EVALUATE):
            expected = sum(chip_s for chip_s, of in kept if of is phase)
            assert after.get(phase, PhaseUsage()).chip_s == pytest.approx(expected, abs=1e-9)
            assert after.get(phase, PhaseUsage()).tokens == pytest.approx(10 * expected, abs=1e-9)
        assert after.get(Phase.LOST, PhaseUsage()).tokens == 0
    now = ledger.measured_bills(run_id)[Job.TRAINING].usage.total
    assert now.chip_s == pytest.approx(total.chip_s)
    assert now.flops == pytest.approx(total.flops)
    assert now.energy.declared_j == pytest.approx(total.energy.declared_j)


def test_the_work_of_a_second_attempt_is_lost_too(ledger: Ledger) -> None:
    run_id = ledger.start("train", {})
    ledger.reading(run_id, used(3), RATES)
    since = n_readings(ledger, run_id)
    ledger.reading(run_id, used(2), RATES)
    lose(ledger, run_id, RATES, since=since, step=9)
    ledger.reading(run_id, used(4), RATES)
    lose(ledger, run_id, RATES, since=since, step=9)
    assert phases(ledger, run_id)[Phase.PRETRAIN].chip_s == 3
    assert phases(ledger, run_id)[Phase.LOST].chip_s == 6
    moved = ledger.records(run_id, RecordKind.READING)[-1].body
    assert (moved["moved_to"], moved["step"]) == ("lost", 9)


def test_nothing_is_lost_where_nothing_was_done(ledger: Ledger) -> None:
    run_id = ledger.start("train", {})
    lose(ledger, run_id, RATES, since=0, step=0)
    assert ledger.measured_bills(run_id) == {}
