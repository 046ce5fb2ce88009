"""A chip as JSON: base units, a reason for every null, and the two derived figures."""

from __future__ import annotations

from typing import Any

import pytest

from twobills.report.chip_documents import chip_document
from twobills.specs import catalog
from twobills.specs.chip_rows import read_chip, read_price

ROW = {
    "vendor": "me",
    "source": "a test",
    "as_of": "2026",
    "bf16_tflops": 500,
    "fp8_tflops": 1000,
    "memory_gb_per_s": 2000,
    "watts": 300,
    "unverified": ["fp8_tflops", "watts"],
}
PRICE = {"chip": "x", "usd_per_hour": 2.0, "kind": "own", "source": "a test", "as_of": "2026"}


def document(*prices: dict[str, Any], **change: Any) -> dict[str, Any]:
    return chip_document(read_chip("x", {**ROW, **change}), [read_price(price) for price in prices])


def test_the_derived_figures() -> None:
    found = document(PRICE)
    assert found["bytes_per_flop"] == pytest.approx(2000e9 / 500e12)
    assert found["usd_per_peak_pflop_hour"] == pytest.approx(4.0)  # 2 dollars for half a PFLOP/s
    assert found["price"] == found["prices"][0]


def test_every_null_has_its_reason() -> None:
    for chip in catalog.chips().values():
        found = chip_document(chip, catalog.chip_prices(chip.name))
        assert set(found["reasons"]) == {key for key, value in found.items() if value is None}
    bare = document(memory_gb_per_s=100)
    assert bare["reasons"]["price"] == bare["reasons"]["usd_per_peak_pflop_hour"]
    assert "16-bit" in chip_document(catalog.chip("tpu-8t"), ())["reasons"]["bytes_per_flop"]


def test_figures_are_in_base_units_and_remembered_ones_are_named() -> None:
    found = document()
    assert found["power_w"] == 300
    assert found["peak_flops_per_s"] == {"bf16": 500e12, "fp8": 1000e12}
    assert found["unverified"] == ["peak_flops_per_s.fp8", "power_w"]
