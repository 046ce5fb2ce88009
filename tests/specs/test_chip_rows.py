"""Rows of chips and prices: units in, base units out, every mistake one line that names file, row and key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import CatalogError
from twobills.specs.chip_rows import FIGURES, PEAKS, read_chip, read_price
from twobills.specs.hardware import Role, peak_name
from twobills.specs.prices import PriceKind
from twobills.units import per_s_to_per_hour

CHIP = {"vendor": "me", "source": "a test", "as_of": "2026"}
PRICE = {"chip": "x", "usd_per_hour": 2.0, "kind": "spot", "source": "a test", "as_of": "2026"}
figures = st.floats(0.01, 1e6)


@given(st.dictionaries(st.sampled_from([*FIGURES, *PEAKS]), figures))
def test_units_round_trip(stated: dict[str, float]) -> None:
    stated.pop("usable_memory_gib", None)
    chip = read_chip("x", {**CHIP, **stated})
    found = chip.figures()
    assert len(found) == len(stated)
    for key, value in stated.items():
        field, unit = FIGURES.get(key) or (peak_name(PEAKS[key]), 1e12)
        assert found[field] / unit == pytest.approx(value, rel=1e-9)


def test_each_unit_is_what_its_key_says() -> None:
    chip = read_chip(
        "x",
        {**CHIP, "sram_mb": 50, "memory_gib": 80, "scaleout_gbit_per_s": 400, "scaleup_gb_per_s": 450, "fp8_tflops": 2},
    )
    assert chip.sram_bytes == 50e6
    assert chip.memory_bytes == 80 * 2**30
    assert chip.scaleout_bytes_per_s == 50e9
    assert chip.scaleup_bytes_per_s == 450e9
    assert chip.figures()["peak_fp8_flops_per_s"] == 2e12


@given(st.floats(0, 1e4))
def test_a_price_round_trips(usd_per_hour: float) -> None:
    assert per_s_to_per_hour(read_price({**PRICE, "usd_per_hour": usd_per_hour}).usd_per_chip_s) == pytest.approx(
        usd_per_hour
    )


def test_what_is_not_said_is_not_known() -> None:
    chip = read_chip("x", CHIP)
    assert chip.figures() == {}
    assert chip.watts is None
    assert chip.role is Role.BOTH
    assert not chip.verified


def test_unverified_keys_become_fields() -> None:
    row = {**CHIP, "fp8_tflops": 1, "watts": 7, "unverified": ["fp8_tflops", "watts"]}
    assert read_chip("x", row).unverified == ("peak_fp8_flops_per_s", "watts")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speed": 1}, r"chips\.toml: chip x: unknown key 'speed'; known are vendor"),
        ({"source": ""}, "source=''"),
        ({"watts": "700"}, "watts='700': must be a number"),
        ({"watts": True}, "watts=True: must be a number"),
        ({"watts": float("nan")}, "watts=nan: must be a number"),
        ({"watts": 0}, "watts=0.0: must be a number above 0"),
        ({"year": 2022.5}, "year=2022.5: must be a whole number"),
        ({"role": "gaming"}, "role='gaming': must be one of training, inference, both"),
        ({"aliases": "h100"}, "aliases='h100': must be a list"),
        ({"verified": "yes"}, "verified='yes': must be true or false"),
        ({"note": 3}, "note=3: must be text"),
        ({"unverified": ["watts"]}, "unverified='watts': the row has no such key"),
        ({"memory_gib": 80, "usable_memory_gib": 90}, "usable_memory_bytes=9.66368e[+]10: must not be above"),
    ],
)
def test_a_chip_row_that_makes_no_sense_is_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogError, match=message) as caught:
        read_chip("x", {**CHIP, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["vendor", "source", "as_of"])
def test_a_chip_row_without_provenance_is_refused(missing: str) -> None:
    with pytest.raises(CatalogError, match=f"chip x: {missing} is missing"):
        read_chip("x", {key: value for key, value in CHIP.items() if key != missing})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "gift"}, "price of x: kind='gift': must be one of on_demand, list"),
        ({"usd_per_hour": -1}, "usd_per_hour=-1: must not be below 0"),
        ({"usd_per_second": 1}, "unknown key 'usd_per_second'"),
    ],
)
def test_a_price_row_that_makes_no_sense_is_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        read_price({**PRICE, **change})
    assert read_price(PRICE).kind is PriceKind.SPOT
