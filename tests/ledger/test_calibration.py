from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from tests.metered_runs import FACTORS, add_run
from twobills.errors import LedgerError
from twobills.ledger import calibration
from twobills.ledger.calibration import MAX_RUNS, hold_out, keep, kept, learn
from twobills.ledger.store import Ledger
from twobills.ledger.timed_runs import Machine, Seconds, TimedRun, timed_runs
from twobills.specs.experience import Experience, Part
from twobills.usage import Job

HERE = Machine("a test's CPU", "cpu-core", 2)


def run_of(measured_s: float, *, forecast_s: float = 10.0, assumed: float = 0.2) -> TimedRun:
    """A run that is all steps."""
    parts = {Part.STEP: Seconds(forecast_s, measured_s)}
    return TimedRun("r", "2026-01-01", Job.TRAINING, HERE, parts, forecast_s, assumed)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def test_the_factors_of_the_runs_are_found_again(ledger: Ledger) -> None:
    for _ in range(3):
        add_run(ledger)
    runs = [run for run in timed_runs(ledger) if run.job is Job.TRAINING]
    found = learn(runs).slower
    assert found == pytest.approx({part: FACTORS[part] for part in (Part.PREPARE, Part.STEP, Part.EVALUATE)})
    assert all(run.forecast_s(found) == pytest.approx(run.measured_s) for run in runs)


def test_learning_from_calibrated_runs_changes_nothing(ledger: Ledger) -> None:
    """Factors do not pile up: runs planned by a calibration teach the same as those before it."""
    for _ in range(3):
        add_run(ledger)
    first = learn([run for run in timed_runs(ledger) if run.job is Job.INFERENCE])
    for _ in range(3):
        add_run(ledger, experience=Experience(inference=first))
    again = learn([run for run in timed_runs(ledger) if run.job is Job.INFERENCE])
    assert again.slower == pytest.approx(dict(first.slower))
    assert again.assumed_log_sigma == pytest.approx(first.assumed_log_sigma)


def test_one_run_beside_a_busy_neighbour_does_not_move_the_factor_but_the_spread() -> None:
    calm = [run_of(12.0) for _ in range(4)]
    disturbed = learn([*calm, run_of(40.0)])
    assert disturbed.slower[Part.STEP] == pytest.approx(1.2)
    assert disturbed.log_sigma > 2 * learn([*calm, run_of(12.0)]).log_sigma


def test_more_runs_that_agree_are_surer_down_to_a_floor() -> None:
    sigmas = [learn([run_of(12.0) for _ in range(n)]).log_sigma for n in range(1, MAX_RUNS + 1)]
    assert sigmas == sorted(sigmas, reverse=True)
    assert sigmas[2] > 0.15  # three runs that agree hardly narrow the 0.2 that was assumed
    assert sigmas[-1] < 0.06
    assert learn([run_of(12.0, assumed=0.01) for _ in range(20)]).log_sigma == calibration.LEAST_LOG_SIGMA


def test_students_t_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats", reason="SciPy comes with the extra `fit`")
    assert pytest.approx(stats.t.ppf(0.95, range(1, MAX_RUNS + 1)), abs=5e-4) == calibration._T95


@pytest.mark.parametrize("n_runs", [3, 5, 10])
@pytest.mark.parametrize("sigma", [0.05, 0.2])
def test_the_interval_holds_nine_runs_of_ten(n_runs: int, sigma: float) -> None:
    """The next run of a machine whose times scatter log-normally, whether or not as much as was assumed."""
    source, n = random.Random(0), 1500
    held = 0
    for _ in range(n):
        *before, coming = (run_of(13 * math.exp(source.gauss(0, sigma))) for _ in range(n_runs + 1))
        learned = learn(before)
        held += abs(math.log(coming.measured_s / coming.forecast_s(learned.slower))) <= 1.645 * learned.log_sigma
    noise = 3 * math.sqrt(0.9 * 0.1 / n)
    assert held / n >= 0.9 - noise
    if sigma == 0.2:
        assert held / n <= 0.97


def test_a_run_is_forecast_by_the_others_only() -> None:
    odd, even = run_of(20.0), run_of(10.0)
    found = hold_out([odd, even, even, even])
    assert found[0].before_s == 10.0
    assert found[0].after_s == pytest.approx(10.0)  # nothing of its own 20
    assert not found[0].covered_before
    assert [one.after_s for one in found[1:]] == pytest.approx([10.0] * 3)
    assert all(one.covered_after for one in found[1:])


@pytest.mark.parametrize("n_runs", [0, MAX_RUNS + 1])
def test_how_many_runs_teach(n_runs: int) -> None:
    with pytest.raises(LedgerError, match=f"n_runs={n_runs}"):
        learn([run_of(10.0)] * n_runs)


def test_the_newest_calibration_of_a_machine_is_in_force(ledger: Ledger) -> None:
    there = HERE._replace(n_chips=8)
    first, second = (Experience(training=learn([run_of(s)] * 3)) for s in (12.0, 15.0))
    keep(ledger, HERE, first, ["a"])
    keep(ledger, there, first, ["b"])
    keep(ledger, HERE, second, ["a", "c"])
    assert kept(Ledger(ledger.path)) == {HERE: second, there: first}
    keep(ledger, HERE, Experience(), [])
    assert kept(ledger) == {there: first}
    assert len(ledger.calibrations()) == 4


def test_a_calibration_is_no_run(ledger: Ledger) -> None:
    run_id = ledger.start("run", {})
    keep(ledger, HERE, Experience(training=learn([run_of(12.0)] * 3)), [run_id])
    assert ledger.run_ids() == [run_id]
    assert ledger.resolve("last") == run_id
