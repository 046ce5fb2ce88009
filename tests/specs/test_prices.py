"""Which of several prices stands where the user gives none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import SpecError
from twobills.specs.prices import ChipPrice, PriceKind, default_price


def price(usd_per_s: float, kind: PriceKind = PriceKind.ON_DEMAND, as_of: str = "2026-01-02") -> ChipPrice:
    return ChipPrice(chip="x", usd_per_chip_s=usd_per_s, kind=kind, source="a test", as_of=as_of, assumed=False)


def test_the_default_is_the_median_of_the_newest_years_on_demand_prices() -> None:
    asked = [price(5), price(1), price(3), price(100, as_of="2025-12-31"), price(0.1, PriceKind.SPOT)]
    assert default_price(asked).usd_per_chip_s == 3
    assert default_price([*asked, price(4)]).usd_per_chip_s == 4  # of two middle ones the dearer
    assert default_price([price(2, as_of="2026"), *asked[:2]]).usd_per_chip_s == 2


def test_another_kind_stands_in_where_none_is_on_demand() -> None:
    asked = [price(0.1, PriceKind.SPOT), price(2, PriceKind.RESERVED_3Y), price(3, PriceKind.RESERVED_1Y, "2020")]
    assert default_price(asked).kind is PriceKind.RESERVED_1Y


@given(st.lists(st.floats(0.01, 100), min_size=1))
def test_the_default_is_a_price_that_was_asked_and_half_are_no_dearer(usd: list[float]) -> None:
    chosen = default_price([price(x) for x in usd]).usd_per_chip_s
    assert chosen in usd
    assert sum(x <= chosen for x in usd) * 2 >= len(usd)
    assert sum(x >= chosen for x in usd) * 2 >= len(usd)


@pytest.mark.parametrize("usd", [-1.0, float("nan"), float("inf")])
def test_a_price_is_a_number_of_dollars(usd: float) -> None:
    with pytest.raises(SpecError, match="usd_per_chip_s"):
        price(usd)
