from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.meter.clock import ManualClock
from twobills.meter.environment import environment
from twobills.meter.meter import Meter
from twobills.meter.power import DeclaredPower, RaplPower, best_reader, power_counters, rapl_zones
from twobills.usage import Job, Phase, PhaseUsage, Stamp


def meter_by(clock: ManualClock) -> Meter:
    power = DeclaredPower(4.0, 2, clock)
    return Meter(Job.INFERENCE, n_chips=2, power=power, resting=Phase.IDLE, clock=clock)


def test_every_second_belongs_to_one_phase() -> None:
    clock = ManualClock()
    meter = meter_by(clock)
    clock.advance(1.0)
    with meter.phase(Phase.PREFILL) as tally:
        clock.advance(2.0)
        tally.add(tokens=10, flops=100, bytes=1000)
    clock.advance(4.0)
    meter.rest()
    phases = meter.usage().phases
    assert phases[Phase.PREFILL].chip_s == 4.0
    assert phases[Phase.IDLE].chip_s == 10.0
    assert phases[Phase.PREFILL].tokens == 10
    assert meter.usage().total.chip_s == 2 * clock.now_s
    assert meter.usage().total.energy.declared_j == pytest.approx(4.0 * 2 * clock.now_s)


def test_a_mixed_step_is_shared_out() -> None:
    clock = ManualClock()
    meter = meter_by(clock)
    clock.advance(3.0)
    meter.record({Phase.PREFILL: 2 / 3, Phase.DECODE: 1 / 3}, {Phase.DECODE: PhaseUsage(tokens=5)})
    phases = meter.usage().phases
    assert phases[Phase.PREFILL].chip_s == pytest.approx(4.0)
    assert phases[Phase.DECODE].chip_s == pytest.approx(2.0)
    assert phases[Phase.DECODE].tokens == 5


def test_what_a_failing_phase_spent_is_kept() -> None:
    clock = ManualClock()
    meter = meter_by(clock)

    def fail() -> None:
        with meter.phase(Phase.DECODE):
            clock.advance(1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert meter.usage().phases[Phase.DECODE].chip_s == 2.0


@given(
    st.lists(
        st.tuples(st.sampled_from([Phase.PREFILL, Phase.DECODE]), st.floats(0, 10), st.booleans()),
        max_size=20,
    )
)
def test_what_is_taken_adds_up_to_the_whole(steps: list[tuple[Phase, float, bool]]) -> None:
    clock = ManualClock()
    meter = meter_by(clock)
    taken = meter.take()
    for phase, seconds, take in steps:
        with meter.phase(phase) as tally:
            clock.advance(seconds)
            tally.add(tokens=1, flops=2, bytes=3)
        if take:
            taken = taken + meter.take()
    taken = taken + meter.take()
    assert taken.total.chip_s == pytest.approx(meter.usage().total.chip_s)
    assert taken.total.tokens == meter.usage().total.tokens == len(steps)


def rapl_zone(root: Path, energy_uj: int) -> Path:
    zone = root / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0\n")
    (zone / "energy_uj").write_text(str(energy_uj))
    (zone / "max_energy_range_uj").write_text("1000000")
    return zone


def test_a_wrapping_counter_is_read_through_its_wrap(tmp_path: Path) -> None:
    zone = rapl_zone(tmp_path, 900_000)
    reader = RaplPower(rapl_zones(tmp_path))
    (zone / "energy_uj").write_text("100000")
    assert reader.read_j() == pytest.approx(0.2)
    (zone / "energy_uj").write_text("150000")
    assert reader.read_j() == pytest.approx(0.25)
    assert reader.stamp is Stamp.ESTIMATED


def test_a_counter_that_may_not_be_read_is_absent(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").mkdir()
    assert rapl_zones(tmp_path) == []


def test_a_whole_platform_counter_is_not_added_to_the_packages(tmp_path: Path) -> None:
    package = rapl_zone(tmp_path, 0)
    platform = tmp_path / "intel-rapl:1"
    platform.mkdir()
    (platform / "name").write_text("psys\n")
    (platform / "energy_uj").write_text("5")
    assert rapl_zones(tmp_path) == [package]


def test_an_open_phase_is_charged_by_another_threads_tick() -> None:
    clock = ManualClock()
    meter = meter_by(clock)
    meter.tick()
    with meter.phase(Phase.DECODE):
        clock.advance(3.0)
        meter.tick()
        assert meter.take().phases[Phase.DECODE].chip_s == 6.0
        clock.advance(1.0)
    assert meter.take().phases[Phase.DECODE].chip_s == 2.0
    assert meter.usage().total.chip_s == 8.0


def test_an_inner_phase_interrupts_the_outer_one() -> None:
    clock = ManualClock()
    meter = meter_by(clock)
    with meter.phase(Phase.PREFILL):
        clock.advance(1.0)
        with meter.phase(Phase.DECODE):
            clock.advance(2.0)
        clock.advance(4.0)
        meter.tick()
        assert meter.usage().phases[Phase.PREFILL].chip_s == 2 * (1.0 + 4.0)
        clock.advance(8.0)
    phases = meter.usage().phases
    assert phases[Phase.PREFILL].chip_s == 2 * (1.0 + 4.0 + 8.0)
    assert phases[Phase.DECODE].chip_s == 2 * 2.0
    assert meter.usage().total.chip_s == 2 * clock.now_s


def test_work_is_added_without_reading_the_clock() -> None:
    clock = ManualClock()
    meter = meter_by(clock)
    clock.advance(1.0)
    meter.add(Phase.PREFILL, tokens=3, flops=5, bytes=7)
    taken = meter.take().phases[Phase.PREFILL]
    assert (taken.tokens, taken.flops, taken.bytes, taken.chip_s) == (3, 5, 7, 0)
    meter.rest()
    assert meter.usage().total.chip_s == 2.0


def test_what_could_not_be_kept_is_put_back() -> None:
    clock = ManualClock()
    meter = meter_by(clock)
    with meter.phase(Phase.DECODE):
        clock.advance(3.0)
    meter.put_back(meter.take())
    clock.advance(1.0)
    meter.rest()
    assert meter.take().total.chip_s == meter.usage().total.chip_s == 8.0


def test_without_a_counter_the_watts_are_declared() -> None:
    if power_counters():
        pytest.skip("this machine has a power counter")
    reader = best_reader(gpu_uuids=(), watts_per_chip=4.0, n_chips=2)
    assert reader.stamp is Stamp.DECLARED
    assert reader.name == "declared 4 W per chip"


def test_counters_of_other_hosts_cannot_be_read() -> None:
    assert best_reader(gpu_uuids=(), watts_per_chip=4.0, n_chips=8, n_hosts=2).stamp is Stamp.DECLARED


def test_the_environment_is_recorded() -> None:
    assert environment()["python"].startswith("3.")
    assert "torch" in environment()["packages"]


def test_time_before_the_meter_was_made_is_resting_time_with_declared_joules() -> None:
    clock = ManualClock()
    clock.advance(100.0)
    power = DeclaredPower(4.0, 2, clock, age_s=7.0)
    meter = Meter(Job.TRAINING, n_chips=2, power=power, resting=Phase.LOST, clock=clock, age_s=7.0)
    clock.advance(1.0)
    meter.rest_in(Phase.PRETRAIN)
    clock.advance(2.0)
    meter.catch_up()
    phases = meter.untaken().phases
    assert phases[Phase.LOST].chip_s == 2 * (7.0 + 1.0)
    assert phases[Phase.LOST].energy.declared_j == 4.0 * 2 * (7.0 + 1.0)
    assert phases[Phase.PRETRAIN].chip_s == 2 * 2.0
    assert meter.take() == meter.usage()


def test_a_process_is_as_old_as_the_kernel_says() -> None:
    code = "import time; time.sleep(0.5); from twobills.meter.clock import process_age_s; print(process_age_s())"
    start_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.5 <= float(done.stdout) <= time.monotonic() - start_s + 0.02
