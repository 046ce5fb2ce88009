from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import usages
from twobills.errors import SpecError
from twobills.money.bill import price
from twobills.money.owned import Amortization, MeterPoint, OwnedChip, owned, ownership
from twobills.money.rates import Rates, rented
from twobills.money.split import Payee, Split, Tenure, split, split_bill
from twobills.specs import catalog
from twobills.specs.running import default_running, silicon_costs
from twobills.usage import Job, Usage

HOUR_S = 3600.0
TODAY = "2026-11-23"
H100 = OwnedChip(price_usd=31_250, watts=700)
conventions = st.sampled_from(Amortization)
points = st.sampled_from(MeterPoint)


def adds_up(of: Split) -> bool:
    """To the last digits of the largest part: a loss can hide among larger numbers."""
    largest = max(abs(of.total_usd), *(abs(part.usd) for part in of.parts))
    return abs(math.fsum(part.usd for part in of.parts) - of.total_usd) <= 4e-16 * largest * len(of.parts)


@given(usages(Job.TRAINING), st.floats(0, 1), conventions)
def test_a_rented_bill_is_given_away_to_the_cent(usage: Usage, usd_per_chip_s: float, how: Amortization) -> None:
    rates = Rates(usd_per_chip_s=usd_per_chip_s, usd_per_j=0.0, source="a test", as_of=TODAY, assumed=False)
    bill = price(usage, rates)
    parts = split_bill(bill, ownership(H100, default_running(), how), Tenure.RENTED)
    assert parts.total_usd == bill.total_usd
    assert adds_up(parts)
    assert all(part.usd >= 0 for part in parts.parts if part.payee is not Payee.PROVIDER)


@given(usages(Job.TRAINING), conventions, points)
def test_an_owned_bill_has_no_provider(usage: Usage, how: Amortization, point: MeterPoint) -> None:
    cost = ownership(H100, default_running(), how)
    bill = price(usage, owned(cost, as_of=TODAY, joules_at=point))
    parts = split_bill(bill, cost, Tenure.OWNED)
    assert Payee.PROVIDER not in {part.payee for part in parts.parts}
    assert math.fsum(part.usd for part in parts.parts) == pytest.approx(bill.total_usd, rel=1e-12)
    assert parts.usd(Payee.POWER) == pytest.approx(sum(line.energy_usd for line in bill.lines))


def test_a_rent_above_cost_leaves_a_margin_and_one_below_it_none() -> None:
    cost = ownership(H100, default_running())
    dear, cheap = (split(usd, chip_s=HOUR_S, cost=cost, tenure=Tenure.RENTED) for usd in (3.99, 1.0))
    assert dear.usd(Payee.PROVIDER) == pytest.approx(3.99 - cost.total * HOUR_S)
    assert not dear.below_cost
    assert cheap.usd(Payee.PROVIDER) < 0
    assert cheap.to_json()["below_estimated_cost"] is True


def test_a_rented_h100_at_the_catalogues_price_pays_its_provider() -> None:
    rates = rented(catalog.chip_price("h100-sxm"))
    cost = ownership(H100, default_running())
    parts = split(rates.usd_per_chip_s * 1e6, chip_s=1e6, cost=cost, tenure=Tenure.RENTED)
    assert parts.usd(Payee.CHIP_MAKER) > parts.usd(Payee.SERVER_MAKERS) > parts.usd(Payee.POWER) > 0
    assert adds_up(parts)


def test_lenders_appear_where_capital_costs_something() -> None:
    def payees(how: Amortization) -> set[Payee]:
        cost = ownership(H100, default_running(), how)
        return {part.payee for part in split(5.0, chip_s=HOUR_S, cost=cost, tenure=Tenure.RENTED).parts}

    assert Payee.LENDERS in payees(Amortization.ANNUITY)
    assert Payee.LENDERS not in payees(Amortization.STRAIGHT_LINE)


def test_known_power_replaces_the_mean_draw() -> None:
    cost = ownership(H100, default_running())
    parts = split(5.0, chip_s=HOUR_S, cost=cost, tenure=Tenure.RENTED, power_usd=0.5)
    assert parts.usd(Payee.POWER) == 0.5
    assert adds_up(parts)


def test_what_the_chip_maker_keeps() -> None:
    """H100: parts $3,320 of a price of $28,000, so 88 % (Raymond James via Epoch AI)."""
    cost = ownership(H100, default_running())
    parts = split(5.0, chip_s=HOUR_S, cost=cost, tenure=Tenure.RENTED, silicon=silicon_costs()["h100-sxm"])
    assert parts.chip_margin_usd == pytest.approx(0.88 * parts.usd(Payee.CHIP_MAKER), rel=0.005)
    assert parts.chip_margin_source
    unknown = split(5.0, chip_s=HOUR_S, cost=cost, tenure=Tenure.RENTED)
    assert unknown.to_json()["chip_margin_usd"] is None


def test_json_is_plain_and_names_who_gets_what() -> None:
    cost = ownership(H100, default_running())
    document = json.loads(json.dumps(split(5.0, chip_s=HOUR_S, cost=cost, tenure=Tenure.RENTED).to_json()))
    assert [part["payee"] for part in document["parts"]] == [
        "chip maker",
        "server makers",
        "network makers",
        "power",
        "hosting",
        "provider's margin",
    ]
    assert math.fsum(part["share_frac"] for part in document["parts"]) == pytest.approx(1)
    assert all(part["estimated"] for part in document["parts"])
    assert document["convention"] == "straight line"
    nothing = split(0.0, chip_s=0.0, cost=cost, tenure=Tenure.RENTED).to_json()
    assert {part["share_frac"] for part in nothing["parts"]} == {None}


def test_a_bill_at_other_rates_is_not_what_owning_costs() -> None:
    cost = ownership(H100, default_running())
    with pytest.raises(SpecError, match=r"total_usd=5: owning these chips costs 1\.6"):
        split(5.0, chip_s=HOUR_S, cost=cost, tenure=Tenure.OWNED)
