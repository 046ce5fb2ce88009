from __future__ import annotations

import math

import pytest
from hypothesis import given

from tests.strategies import rates, usages
from twobills.errors import SpecError
from twobills.money.bill import Bill, price
from twobills.money.rates import Rates, at_user_price, machine_usd_per_day, rented
from twobills.specs.prices import ChipPrice, PriceKind
from twobills.usage import Job, Phase, Usage


@given(usages(Job.TRAINING), usages(Job.TRAINING), rates)
def test_bills_add_as_their_usages_do(a: Usage, b: Usage, at: Rates) -> None:
    assert price(a + b, at).total_usd == pytest.approx(price(a, at).total_usd + price(b, at).total_usd)


@given(usages(Job.INFERENCE), rates)
def test_a_bill_is_usage_times_rates(usage: Usage, at: Rates) -> None:
    bill, total = price(usage, at), usage.total
    assert bill.total_usd == pytest.approx(total.chip_s * at.usd_per_chip_s + total.energy.total_j * at.usd_per_j)
    assert sum(line.usd for line in bill.lines) == pytest.approx(bill.total_usd)


@given(usages(Job.TRAINING), rates)
def test_a_bill_survives_json(usage: Usage, at: Rates) -> None:
    bill = price(usage, at)
    assert Bill.from_json(bill.to_json()) == bill


@given(usages(Job.TRAINING), rates)
def test_a_phase_that_did_not_happen_costs_nothing(usage: Usage, at: Rates) -> None:
    if Phase.LOST not in usage.phases:
        assert price(usage, at).line(Phase.LOST).usd == 0


def test_rented_chips_include_their_power() -> None:
    asked = ChipPrice(
        chip="h100-sxm", usd_per_chip_s=0.001, kind=PriceKind.ON_DEMAND, source="a test", as_of="2026", assumed=False
    )
    at = rented(asked)
    assert at.usd_per_chip_s == 0.001
    assert at.usd_per_j == 0


def test_a_machine_whose_power_is_paid_for_must_declare_it() -> None:
    at = Rates(usd_per_chip_s=0.001, usd_per_j=1e-7, source="a test", as_of="2026", assumed=False)
    assert machine_usd_per_day(at, n_chips=2, watts_per_chip=500.0) == pytest.approx(2 * 86400 * (0.001 + 5e-5))
    with pytest.raises(SpecError, match="watts_per_chip: not known"):
        machine_usd_per_day(at, n_chips=2, watts_per_chip=None)


def test_a_users_price_replaces_the_catalogues() -> None:
    at = at_user_price(0.36, as_of="2026-11-23")
    assert at.usd_per_chip_s == pytest.approx(0.0001)
    assert not at.assumed
    assert at.as_of == "2026-11-23"
    with pytest.raises(SpecError, match="must be a number of dollars"):
        at_user_price(math.inf, as_of="2026-11-23")
    with pytest.raises(SpecError, match="must not be below 0"):
        at_user_price(-1, as_of="2026-11-23")
