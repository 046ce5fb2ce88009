"""What the catalogue knows of a chip and its prices, as plain JSON.

Two figures are derived: bytes that the memory can read for each 16-bit FLOP (bf16, else fp16), which says how soon
work waits for memory, and dollars for a 16-bit peak PFLOP/s of an hour at the default price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from twobills.specs.dtype import DType
from twobills.specs.hardware import ChipSpec
from twobills.specs.prices import ChipPrice, default_price
from twobills.units import PETA, per_s_to_per_hour

_NOT_PUBLISHED = "not in the catalogue: not published, or not found"
_JSON_NAMES = {"watts": "power_w"}
_NOT_FIGURES = {"verified", "peak_flops_per_s", "unverified", "aliases", "reported_as"}


def chip_document(chip: ChipSpec, prices: Sequence[ChipPrice]) -> dict[str, Any]:
    """Everything the catalogue knows of one chip, base units in the key names; ``reasons`` says why a null is one."""
    document: dict[str, Any] = {
        _JSON_NAMES.get(field.name, field.name): getattr(chip, field.name)
        for field in fields(chip)
        if field.name not in _NOT_FIGURES
    }
    price = default_price(prices) if prices else None
    peak = _peak_16bit(chip)
    document |= {
        "verified": chip.verified,
        "aliases": list(chip.aliases),
        "peak_flops_per_s": {dtype.value: rate for dtype, rate in chip.peak_flops_per_s.items()},
        "unverified": [_key_of(name) for name in chip.unverified],
        "price": None if price is None else price_document(price),
        "prices": [price_document(each) for each in prices],
        "bytes_per_flop": _ratio(chip.memory_bytes_per_s, peak),
        "usd_per_peak_pflop_hour": _usd_per_peak_pflop_hour(price, peak),
    }
    document["reasons"] = {key: _reason(key, peak, chip) for key, value in document.items() if value is None}
    return document


def price_document(price: ChipPrice) -> dict[str, Any]:
    """One price as plain JSON."""
    return {
        "usd_per_chip_s": price.usd_per_chip_s,
        "usd_per_chip_hour": per_s_to_per_hour(price.usd_per_chip_s),
        "kind": price.kind.value,
        "provider": price.provider,
        "region": price.region,
        "as_of": price.as_of,
        "assumed": price.assumed,
        "source": price.source,
    }


def _key_of(name: str) -> str:
    """Where the document has a fact that the row calls so: ``peak_flops_per_s.fp8``, ``power_w``."""
    if name.startswith("peak_"):
        return f"peak_flops_per_s.{name.removeprefix('peak_').removesuffix('_flops_per_s')}"
    return _JSON_NAMES.get(name, name)


def _peak_16bit(chip: ChipSpec) -> float | None:
    return chip.peak_flops_per_s.get(DType.BF16, chip.peak_flops_per_s.get(DType.FP16))


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a / b


def _usd_per_peak_pflop_hour(price: ChipPrice | None, peak_flops_per_s: float | None) -> float | None:
    if price is None or peak_flops_per_s is None:
        return None
    return per_s_to_per_hour(price.usd_per_chip_s) / (peak_flops_per_s / PETA)


def _reason(key: str, peak: float | None, chip: ChipSpec) -> str:
    if key in {"bytes_per_flop", "usd_per_peak_pflop_hour"} and peak is None:
        return "no dense 16-bit peak is in the catalogue"
    if key == "bytes_per_flop":
        return "no memory bandwidth is in the catalogue"
    if key in {"price", "usd_per_peak_pflop_hour"}:
        return "no price by the hour is in the catalogue"
    if key == "usable_memory_bytes" and chip.memory_bytes is not None:
        return "not known to be less than printed"
    return _NOT_PUBLISHED
