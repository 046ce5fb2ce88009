from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import SpecError
from twobills.plan.failures import (
    Checkpoint,
    FailingRun,
    best_interval_s,
    checkpoint_of,
    daly_interval_s,
    failing_run,
    goodput,
    goodput_interval,
    pauses_s,
    young_interval_s,
)
from twobills.specs.catalog import read_rows
from twobills.specs.running import default_running

DAY_S, HOUR_S, MINUTE_S = 86400.0, 3600.0, 60.0
LLAMA_STATE_BYTES = 405e9 * 14  # bf16 weights, fp32 master weights and two moments


def a_run(
    *, useful_s: float = 1e6, mtbf_s: float = 1e4, stall_s: float = 30.0, restart_s: float = 300.0, n_chips: int = 1
) -> FailingRun:
    checkpoint = Checkpoint(stall_s=stall_s, latency_s=stall_s, load_s=0.0)
    return FailingRun(
        useful_s=useful_s, n_chips=n_chips, mtbf_chip_s=mtbf_s, checkpoint=checkpoint, restart_s=restart_s
    )


def frac(run: FailingRun) -> float:
    """Goodput, 0 for a run that stands still."""
    try:
        return goodput(run).goodput_frac
    except SpecError:
        return 0.0


runs = st.builds(
    a_run,
    useful_s=st.floats(1e4, 1e8),
    mtbf_s=st.floats(2e3, 1e9),
    stall_s=st.floats(0.1, 300.0),
    restart_s=st.floats(0.0, 600.0),
)


@pytest.mark.parametrize(
    ("mtbf_s", "published_minutes", "digits"),
    [(24 * HOUR_S, 117, 0.5), (6 * HOUR_S, 57, 0.5), (15 * MINUTE_S, 9.1, 0.05)],
)
def test_dalys_intervals(mtbf_s: float, published_minutes: float, digits: float) -> None:
    """Daly 2006, figures 3 to 5: stall 5 min."""
    assert daly_interval_s(5 * MINUTE_S, mtbf_s) / MINUTE_S == pytest.approx(published_minutes, abs=digits)
    # Daly's series against the root that it approximates
    assert daly_interval_s(5 * MINUTE_S, mtbf_s) == pytest.approx(best_interval_s(5 * MINUTE_S, mtbf_s), rel=0.005)


def test_rare_failures_leave_youngs_interval() -> None:
    assert best_interval_s(1.0, 1e10) == pytest.approx(young_interval_s(1.0, 1e10), rel=1e-4)
    assert best_interval_s(1.0, 1e14) == pytest.approx(young_interval_s(1.0, 1e14), rel=1e-6)


class Simulated(NamedTuple):
    wall_s: float
    restart_s: float
    n_failures: int


def simulate(run: FailingRun, interval_s: float, rng: random.Random) -> Simulated:
    """The run, failure by failure: work goes back to the last checkpoint that storage held."""
    stall_s, latency_s, _ = run.checkpoint
    mtbf_s, behind_s = run.mtbf_chip_s / run.n_chips, latency_s - stall_s
    left, wall_s, restart_s, n_failures = round(run.useful_s / interval_s), 0.0, 0.0, 0
    while True:
        needed_s, until_failure_s = left * (interval_s + stall_s), rng.expovariate(1 / mtbf_s)
        if until_failure_s >= needed_s:
            return Simulated(wall_s + needed_s, restart_s, n_failures)
        wall_s += until_failure_s
        left -= max(0, math.floor((until_failure_s - behind_s) / (interval_s + stall_s)))
        while True:
            n_failures += 1
            until_failure_s = rng.expovariate(1 / mtbf_s)
            wall_s += min(until_failure_s, run.restart_s)
            restart_s += min(until_failure_s, run.restart_s)
            if until_failure_s >= run.restart_s:
                break


@pytest.mark.parametrize(
    ("mtbf_s", "interval_s", "latency_s"),
    [(20_000.0, 1000.0, 40.0), (1500.0, 400.0, 40.0), (3000.0, 600.0, 500.0), (800.0, 1200.0, 40.0)],
)
def test_expected_time_is_the_mean_of_simulated_runs(mtbf_s: float, interval_s: float, latency_s: float) -> None:
    run = FailingRun(
        useful_s=300 * interval_s,
        n_chips=4,
        mtbf_chip_s=4 * mtbf_s,
        checkpoint=Checkpoint(stall_s=40.0, latency_s=latency_s, load_s=0.0),
        restart_s=250.0,
        interval_s=interval_s,
    )
    rng = random.Random(17)
    seen = [simulate(run, interval_s, rng) for _ in range(400)]
    expected = goodput(run)
    # Writing in the background, a run starts with nothing behind and so gains at most one latency once.
    edge_s = (latency_s - 40.0) * expected.wall_s / run.useful_s
    for value, sample, edge in (
        (expected.wall_s, [s.wall_s for s in seen], edge_s),
        (expected.restart_s, [s.restart_s for s in seen], edge_s * 250.0 / mtbf_s),
        (expected.n_failures, [float(s.n_failures) for s in seen], edge_s / mtbf_s),
    ):
        standard_error = statistics.stdev(sample) / math.sqrt(len(sample))
        assert abs(statistics.fmean(sample) - value) < 4 * standard_error + edge


@given(runs)
def test_wall_time_has_a_name_for_every_second(run: FailingRun) -> None:
    g = goodput(run)
    assert g.useful_s + g.checkpoint_s + g.lost_s + g.restart_s == pytest.approx(g.wall_s)
    assert 0 < g.goodput_frac < 1
    assert min(g.lost_s, g.restart_s, g.checkpoint_s) >= 0
    assert g.n_failures * g.mtbf_s == pytest.approx(g.wall_s)


@given(runs, st.integers(1, 50))
def test_more_chips_never_raise_goodput(run: FailingRun, factor: int) -> None:
    assert frac(replace(run, n_chips=run.n_chips * factor)) <= frac(run) * (1 + 1e-9)


@given(runs, st.floats(0.05, 1.0), st.floats(0.0, 3000.0))
def test_a_faster_checkpoint_never_lowers_goodput(run: FailingRun, factor: float, behind_s: float) -> None:
    stall_s = run.checkpoint.stall_s
    slow = Checkpoint(stall_s=stall_s, latency_s=stall_s + behind_s, load_s=0.0)
    fast = Checkpoint(stall_s=stall_s * factor, latency_s=(stall_s + behind_s) * factor, load_s=0.0)
    assert frac(replace(run, checkpoint=fast)) >= frac(replace(run, checkpoint=slow)) * (1 - 1e-9)


@given(runs)
def test_the_best_interval_beats_half_and_twice_of_itself(run: FailingRun) -> None:
    run = replace(run, useful_s=run.useful_s * 1e6)  # so long that the last checkpoint does not decide
    best = goodput(run)
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert frac(replace(run, interval_s=best.interval_s * factor)) <= best.goodput_frac * (1 + 1e-9)


def test_without_failures_only_checkpoints_cost() -> None:
    never = replace(a_run(mtbf_s=math.inf), interval_s=1000.0)
    g = goodput(never)
    assert (g.n_failures, g.lost_s, g.restart_s) == (0, 0, 0)
    assert g.wall_s == pytest.approx(1e6 + 1000 * 30)
    assert goodput(a_run(mtbf_s=math.inf)).n_checkpoints == 1
    assert g.to_json()["mtbf_s"] is None
    rare = goodput(replace(never, mtbf_chip_s=1e15))
    assert rare.wall_s == pytest.approx(g.wall_s, rel=1e-6)


def test_a_failure_loses_half_an_interval_when_they_are_rare() -> None:
    """BLOOM: a checkpoint every 3 h, 1.5 h lost on a crash (The Technology Behind BLOOM Training)."""
    row = read_rows("running")["observed"]["bloom-176b"]
    run = a_run(useful_s=90 * DAY_S, mtbf_s=5 * DAY_S, stall_s=1.0, restart_s=0.0)
    g = goodput(replace(run, interval_s=row["checkpoint_interval_hours"] * HOUR_S))
    assert g.lost_s / g.n_failures / HOUR_S == pytest.approx(row["lost_per_failure_hours"], rel=0.02)


def test_the_cost_function_of_metas_reliability_study() -> None:
    """Kokolis et al. 2024, arXiv:2410.21680: ETTR ~ (1 - n r (u + t/2)) / (1 + w/t), to first order."""
    n, r_per_s, u_s, t_s, w_s = 128, 6.5e-3 / DAY_S, 300.0, 1800.0, 10.0
    theirs = (1 - n * r_per_s * (u_s + t_s / 2)) / (1 + w_s / t_s)
    run = a_run(mtbf_s=1 / r_per_s, stall_s=w_s, restart_s=u_s, n_chips=n)
    assert goodput(replace(run, interval_s=t_s)).goodput_frac == pytest.approx(theirs, rel=0.005)


def llama_3(n_chips: int = 16384) -> FailingRun:
    return failing_run(50 * DAY_S, n_chips, LLAMA_STATE_BYTES, default_running())


def test_llama_3s_effective_time_and_interruptions() -> None:
    """arXiv:2407.21783: above 90 % effective, 466 interruptions (419 unexpected) in 54 days.

    The failure rate comes from the 419; checkpoint and restart costs come from elsewhere, so the 90 % is a forecast.
    """
    row, running = read_rows("running")["observed"]["llama-3-405b"], default_running()
    g = goodput(llama_3())
    assert row["min_goodput_frac"] < g.goodput_frac < 0.97
    window_s = row["days"] * DAY_S
    assert abs(window_s / g.mtbf_s - row["n_interruptions"]) < 1.645 * math.sqrt(row["n_interruptions"])
    fact = running.facts["mtbf_chip_s"]
    most, least = (window_s * row["n_chips"] / mtbf_s for mtbf_s in (fact.low, fact.high))
    assert least < row["n_interruptions"] < row["n_interruptions_all"] < most


def test_runs_that_the_rate_was_not_taken_from() -> None:
    """BLOOM: 1-2 GPU failures a week. MegaScale: over 100 restarts, above 90 %. Meta: 1.8 h at 16,384 A100."""
    observed, running = read_rows("running")["observed"], default_running()
    bloom = observed["bloom-176b"]
    per_week = bloom["days"] * DAY_S * bloom["n_chips"] / running.mtbf_chip_s
    assert bloom["n_interruptions_low"] <= per_week <= bloom["n_interruptions_high"]
    three_weeks_s = 21 * DAY_S  # "several weeks" is all that is said
    megascale = goodput(failing_run(three_weeks_s, 12288, 175e9 * 14, running))
    assert megascale.goodput_frac > observed["megascale"]["min_goodput_frac"]
    assert megascale.n_failures > observed["megascale"]["n_interruptions"]
    fact = running.facts["mtbf_chip_s"]
    assert fact.low < observed["meta-rsc-1"]["mttf_hours_at_16384"] * HOUR_S * 16384 < fact.high


def test_metas_projected_times_between_failures() -> None:
    row = read_rows("running")["observed"]["meta-rsc-1"]
    mtbf_chip_s = row["chips_per_node"] * DAY_S * 1000 / row["failures_per_thousand_node_days"]
    for n_chips in (16384, 131072):
        run = a_run(mtbf_s=mtbf_chip_s, stall_s=1.0, restart_s=10.0, n_chips=n_chips)
        assert goodput(run).mtbf_s / HOUR_S == pytest.approx(row[f"mttf_hours_at_{n_chips}"], rel=0.03)


def test_goodput_lies_between_the_least_and_the_most_reliable_chips() -> None:
    fact = default_running().facts["mtbf_chip_s"]
    interval = goodput_interval(llama_3(), fact.low, fact.high)
    assert interval.p5 < interval.value < interval.p95 < 1
    assert goodput_interval(llama_3(), 1.0, fact.high).p5 == 0


def test_asynchronous_checkpoints_stop_the_run_for_the_copy_alone() -> None:
    running = replace(
        default_running(),
        checkpoint_pause_s=2.0,
        checkpoint_copy_bytes_per_s=10e9,
        checkpoint_write_bytes_per_s=1e8,
    )
    at_once = checkpoint_of(64e9, 8, running, asynchronous=False)
    behind = checkpoint_of(64e9, 8, running)
    assert behind == pytest.approx(Checkpoint(stall_s=2.8, latency_s=82.8, load_s=80.0))
    assert at_once.stall_s == at_once.latency_s == pytest.approx(82.8)
    fails = replace(running, mtbf_chip_s=1e5)
    times = [goodput(failing_run(1e6, 8, 64e9, fails, asynchronous=a)).wall_s for a in (True, False)]
    assert times[0] < times[1]


@pytest.mark.parametrize(("state_bytes", "n_chips"), [(0.0, 8), (math.nan, 8), (math.inf, 8), (1e12, 0)])
def test_a_checkpoint_holds_something_on_some_chips(state_bytes: float, n_chips: int) -> None:
    with pytest.raises(SpecError, match=r"^(state_bytes|n_chips)="):
        checkpoint_of(state_bytes, n_chips, default_running())


def test_one_checkpoint_is_written_at_a_time() -> None:
    slow = Checkpoint(stall_s=1.0, latency_s=2000.0, load_s=0.0)
    run = replace(a_run(), checkpoint=slow)
    assert best_interval_s(1.0, 1e4) < 1999
    assert goodput(run).interval_s == 1999
    with pytest.raises(SpecError, match="interval_s=60: the last checkpoint would not be written yet; at least 1999"):
        replace(run, interval_s=60.0)


@pytest.mark.parametrize("n_chips", [2_000_000, 10**9])
def test_too_many_failures_are_said_in_one_line(n_chips: int) -> None:
    with pytest.raises(SpecError) as caught:
        goodput(llama_3(n_chips))
    assert str(caught.value).startswith(f"{n_chips} chips: a failure every ")
    assert "--mtbf-hours" in str(caught.value)
    assert "cannot make progress" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("useful_s", 0.0, "useful_s=0: must be above 0"),
        ("useful_s", math.inf, "useful_s=inf: must be a finite number"),
        ("n_chips", 0, "n_chips=0: must be at least 1"),
        ("mtbf_chip_s", math.nan, "mtbf_chip_s=nan: must be above 0"),
        ("restart_s", -5.0, "restart_s=-5: must not be below 0"),
        ("restart_s", math.inf, "restart_s=inf: must be a finite number"),
        ("checkpoint", Checkpoint(9.0, 3.0, 0.0), "latency_s=3: must be at least the stall of 9 s"),
    ],
)
def test_nonsense_is_refused(field: str, value: float, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(a_run(), **{field: value})  # type: ignore[arg-type]
    assert str(caught.value) == says


def test_a_run_shorter_than_its_checkpoint_ends_all_the_same() -> None:
    g = goodput(a_run(useful_s=0.1, mtbf_s=1e8))
    assert g.wall_s == pytest.approx(30.1, rel=1e-3)
    assert g.n_checkpoints == 1
    with pytest.raises(SpecError, match="cannot make progress"):
        goodput(a_run(useful_s=0.1, mtbf_s=5.0))


def test_only_runs_of_days_pause() -> None:
    running = default_running()
    assert pauses_s(4 * HOUR_S, running) == pauses_s(DAY_S, running) == 0
    assert pauses_s(2 * DAY_S, running) == pytest.approx(2 * DAY_S * running.pauses_frac)
    assert pauses_s(80 * DAY_S, running) == pytest.approx(80 * DAY_S * running.pauses_frac)


@given(st.floats(1.0, 1e8), st.floats(1.0, 2.0))
def test_more_work_never_pauses_less(wall_s: float, factor: float) -> None:
    running = default_running()
    assert pauses_s(wall_s, running) <= pauses_s(wall_s * factor, running)
