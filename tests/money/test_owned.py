from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import SpecError
from twobills.money.bill import price
from twobills.money.owned import Amortization, MeterPoint, OwnedChip, owned, ownership, write_off_per_s
from twobills.specs.running import Running, default_running
from twobills.usage import Energy, Job, Origin, Phase, PhaseUsage, Usage

HOUR_S, YEAR_S = 3600.0, 31_557_600.0
H100 = OwnedChip(price_usd=31_250, watts=700)
TODAY = "2026-11-23"

runnings = st.builds(
    lambda life, interest, decline, used, pue: replace(
        default_running(),
        life_s=life * YEAR_S,
        cost_of_capital_frac=interest,
        decline_oom_per_year=decline,
        utilization_frac=used,
        pue=pue,
    ),
    st.floats(1, 10),
    st.floats(0, 0.3),
    st.floats(0, 0.5),
    st.floats(0.1, 1),
    st.floats(1, 2),
)
conventions = st.sampled_from(Amortization)


def epochs() -> Running:
    """Epoch AI's constants for an H100 at a hyperscaler (cost_analysis_standalone.py, snapshot of 2026-04-01)."""
    return replace(default_running(), server_factor=1.64, network_factor=1.235, server_power_factor=1.82, pue=1.1)


def test_an_h100_in_its_first_year() -> None:
    """Epoch AI's constants: $63,300 at purchase, $2.33 an hour at first, energy $0.087 an hour."""
    cost = ownership(H100, epochs(), Amortization.DECLINING)
    hardware = cost.chip + cost.server + cost.network
    assert hardware / write_off_per_s(epochs(), Amortization.DECLINING) == pytest.approx(63_300, rel=1e-3)
    assert hardware * HOUR_S == pytest.approx(2.33, abs=0.005)
    assert cost.power * HOUR_S == pytest.approx(0.087, abs=0.0005)
    assert cost.server / cost.chip == pytest.approx(0.64)
    assert cost.network / (cost.chip + cost.server) == pytest.approx(0.235)


def test_value_halves_in_a_little_over_two_years() -> None:
    """0.14 orders of magnitude a year is half in 2.15 years (Epoch AI)."""
    new, old = (ownership(replace(H100, age_s=a), epochs(), Amortization.DECLINING) for a in (0.0, 2.15 * YEAR_S))
    assert old.chip / new.chip == pytest.approx(0.5, rel=1e-3)
    assert (old.power, old.hosting) == (new.power, new.hosting)


def test_owning_an_h100_costs_what_analysts_say() -> None:
    """SemiAnalysis' model, in InferenceX of 2026-04-03: $1.30 (hyperscaler) to $1.69 (small cloud) an hour, +-10 %."""
    cost = ownership(H100, default_running())
    assert 1.30 * 0.9 < cost.total * HOUR_S < 1.69 * 1.1


def test_energy_and_upkeep_of_a_gigawatt() -> None:
    """Epoch AI 2026-05-14: a GW of IT costs $0.9G a year to run, $0.6G of it energy."""
    running = default_running()
    gigawatt = OwnedChip(price_usd=0, watts=1e9 / running.server_power_factor)
    cost = ownership(gigawatt, running)
    building = 1e9 * running.facility_usd_per_w / running.facility_life_s
    assert cost.power * YEAR_S == pytest.approx(0.6e9, rel=0.05)
    assert (cost.power + cost.hosting - building) * YEAR_S == pytest.approx(0.9e9, rel=0.05)


def test_a_shorter_life_costs_what_epoch_says() -> None:
    """Epoch AI 2026-05-14, a GW of IT: $12G a year at a life of 3 years, $8.5G at 5, $7G at 7.

    The differences leave capital alone, and straight-line write-off must explain both with one price.
    """
    rate = {y: write_off_per_s(replace(epochs(), life_s=y * YEAR_S), Amortization.STRAIGHT_LINE) for y in (3, 5, 7)}
    from_short = (12e9 - 8.5e9) / YEAR_S / (rate[3] - rate[5])
    from_long = (8.5e9 - 7e9) / YEAR_S / (rate[5] - rate[7])
    assert from_short == pytest.approx(from_long, rel=0.02)


@given(runnings)
def test_straight_line_pays_the_price_over_the_life(running: Running) -> None:
    assert write_off_per_s(running, Amortization.STRAIGHT_LINE) * running.life_s == pytest.approx(1)


@given(runnings, st.floats(0.5, 20))
def test_declining_value_pays_what_the_value_loses(running: Running, years: float) -> None:
    steps = 2000
    middles = ((i + 0.5) / steps * years * YEAR_S for i in range(steps))
    paid = (
        math.fsum(write_off_per_s(running, Amortization.DECLINING, age_s=a) for a in middles) * years * YEAR_S / steps
    )
    assert paid == pytest.approx(1 - 10 ** (-running.decline_oom_per_year * years), rel=1e-4, abs=1e-9)


@given(runnings)
def test_an_annuity_is_worth_the_price_today(running: Running) -> None:
    steps, per_s = 2000, write_off_per_s(running, Amortization.ANNUITY)
    middles = ((i + 0.5) / steps * running.life_s for i in range(steps))
    worth = math.fsum(per_s * (1 + running.cost_of_capital_frac) ** (-t / YEAR_S) for t in middles)
    assert worth * running.life_s / steps == pytest.approx(1, rel=1e-4)


def test_an_annuity_without_interest_is_the_straight_line() -> None:
    straight = write_off_per_s(epochs(), Amortization.STRAIGHT_LINE)
    for interest in (0.0, 1e-9):
        running = replace(epochs(), cost_of_capital_frac=interest)
        assert write_off_per_s(running, Amortization.ANNUITY) == pytest.approx(straight, rel=1e-6)
    assert write_off_per_s(epochs(), Amortization.ANNUITY) > straight
    assert ownership(H100, epochs()).financing == 0
    assert ownership(H100, epochs(), Amortization.ANNUITY).financing > 0


@given(runnings, conventions, st.floats(0, 1e5), st.floats(1, 2000))
def test_the_parts_are_the_total(running: Running, convention: Amortization, usd: float, watts: float) -> None:
    cost = ownership(OwnedChip(price_usd=usd, watts=watts), running, convention)
    hardware_usd = usd * running.server_factor * running.network_factor
    capital = hardware_usd * write_off_per_s(running, convention) / running.utilization_frac
    assert cost.chip + cost.server + cost.network + cost.financing == pytest.approx(capital)
    assert cost.total == pytest.approx(cost.capital + cost.power)


@given(runnings, conventions)
def test_unused_hours_are_paid_by_the_used_ones(running: Running, convention: Amortization) -> None:
    half = ownership(H100, replace(running, utilization_frac=running.utilization_frac / 2), convention)
    full = ownership(H100, running, convention)
    assert half.capital == pytest.approx(2 * full.capital)
    assert half.power == full.power


@given(runnings, conventions)
def test_the_bill_of_an_owned_hour_is_its_cost(running: Running, convention: Amortization) -> None:
    cost = ownership(H100, running, convention)
    at_chip_j = H100.watts * running.mean_draw_frac * HOUR_S
    joules = {
        MeterPoint.CHIP: at_chip_j,
        MeterPoint.SERVER: at_chip_j * running.server_power_factor,
        MeterPoint.FACILITY: at_chip_j * running.server_power_factor * running.pue,
    }
    for point, j in joules.items():
        hour = PhaseUsage(chip_s=HOUR_S, energy=Energy(declared_j=j))
        usage = Usage(job=Job.TRAINING, origin=Origin.PREDICTED, phases={Phase.PRETRAIN: hour})
        bill = price(usage, owned(cost, as_of=TODAY, joules_at=point))
        assert bill.total_usd == pytest.approx(cost.total * HOUR_S)


def test_rates_say_which_convention_made_them() -> None:
    rates = owned(ownership(H100, epochs(), Amortization.ANNUITY), as_of=TODAY)
    assert rates.assumed
    assert rates.source == "owned, annuity; joules at the server"


def test_no_chip_has_a_price_below_zero() -> None:
    with pytest.raises(SpecError, match="price_usd=-1: must be a number, not below 0"):
        OwnedChip(price_usd=-1, watts=700)
    with pytest.raises(SpecError, match="watts=inf"):
        OwnedChip(price_usd=1, watts=math.inf)
