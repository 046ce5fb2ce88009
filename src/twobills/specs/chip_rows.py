"""Rows of chips and prices, as TOML writes them in human units, read into specs in base units.

A key says its unit (``memory_gib``, ``scaleout_gbit_per_s``); every other key is refused, and so is a row that does
not say where it comes from and as of when. ``unverified`` names keys of the row itself.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from twobills.errors import CatalogError, SpecError
from twobills.specs.dtype import DType
from twobills.specs.hardware import ChipSpec, Role, peak_name
from twobills.specs.prices import ChipPrice, PriceKind
from twobills.units import BITS_PER_BYTE, GIBI, GIGA, MEGA, TERA, per_hour_to_per_s

Row = Mapping[str, Any]
E = TypeVar("E", bound=StrEnum)
PROVENANCE = ("source", "as_of")
PEAKS: Mapping[str, DType] = {
    "fp32_tflops": DType.FP32,
    "bf16_tflops": DType.BF16,
    "fp16_tflops": DType.FP16,
    "fp8_tflops": DType.FP8,
    "fp4_tflops": DType.FP4,
    "int8_tops": DType.INT8,
    "int4_tops": DType.INT4,
}
FIGURES: Mapping[str, tuple[str, float]] = {
    "watts": ("watts", 1.0),
    "memory_gib": ("memory_bytes", GIBI),
    "usable_memory_gib": ("usable_memory_bytes", GIBI),
    "memory_gb_per_s": ("memory_bytes_per_s", GIGA),
    "sram_mb": ("sram_bytes", MEGA),
    "scaleup_gb_per_s": ("scaleup_bytes_per_s", GIGA),
    "scaleout_gbit_per_s": ("scaleout_bytes_per_s", GIGA / BITS_PER_BYTE),
    "process_nm": ("process_nm", 1.0),
    "die_mm2": ("die_mm2", 1.0),
    "list_price_usd": ("list_price_usd", 1.0),
}
"""Key of a row: field of ``ChipSpec``, base units in one of the row's."""
_COUNTS = ("year", "scaleup_chips")
_TEXTS = ("vendor", "family", "memory_kind", "list_price_as_of", "list_price_note", "note", *PROVENANCE)
_NAMES = ("aliases", "reported_as", "unverified")
_CHIP_KEYS = (*_TEXTS, "role", *_COUNTS, *FIGURES, *PEAKS, *_NAMES, "verified")
_PRICE_TEXTS = ("chip", "kind", "provider", "region", *PROVENANCE)
_PRICE_KEYS = (*_PRICE_TEXTS, "usd_per_hour", "assumed")


def read_chip(name: str, row: Row, *, where: str = "chips.toml") -> ChipSpec:
    """The chip of one row. Raises CatalogError, naming the file, the row and the key."""
    what = f"{where}: chip {name}"
    _check_keys(what, row, _CHIP_KEYS, required=("vendor", *PROVENANCE))
    fields: dict[str, Any] = {
        **{key: _text(what, key, row[key]) for key in _TEXTS if key in row},
        **{key: _count(what, key, row[key]) for key in _COUNTS if key in row},
        **{field: _figure(what, key, row[key], unit) for key, (field, unit) in FIGURES.items() if key in row},
        **{key: _names(what, key, row[key]) for key in _NAMES if key in row},
    }
    fields["unverified"] = tuple(_field_of(what, key, row) for key in fields.get("unverified", ()))
    try:
        return ChipSpec(
            name=name,
            role=_one_of(what, "role", Role, row.get("role", Role.BOTH)),
            peak_flops_per_s={dtype: _figure(what, key, row[key], TERA) for key, dtype in PEAKS.items() if key in row},
            verified=_yes_or_no(what, "verified", row.get("verified", False)),
            **fields,
        )
    except SpecError as error:
        raise CatalogError(f"{what}: {error}") from None


def read_price(row: Row, *, where: str = "prices.toml") -> ChipPrice:
    """The price of one row. Raises CatalogError, naming the file, the row and the key."""
    what = f"{where}: price of {row.get('chip', '?')}"
    _check_keys(what, row, _PRICE_KEYS, required=("chip", "usd_per_hour", "kind", *PROVENANCE))
    texts = {key: _text(what, key, row[key]) for key in _PRICE_TEXTS if key in row and key != "kind"}
    usd_per_hour = _number(what, "usd_per_hour", row["usd_per_hour"])
    if usd_per_hour < 0:
        raise CatalogError(f"{what}: usd_per_hour={usd_per_hour:g}: must not be below 0")
    return ChipPrice(
        usd_per_chip_s=per_hour_to_per_s(usd_per_hour),
        kind=_one_of(what, "kind", PriceKind, row["kind"]),
        assumed=_yes_or_no(what, "assumed", row.get("assumed", False)),
        **texts,
    )


def _check_keys(what: str, row: object, known: Collection[str], *, required: Collection[str]) -> None:
    if not isinstance(row, Mapping):
        raise CatalogError(f"{what}: {row!r}: must be a table of keys and values")
    if unknown := [key for key in row if key not in known]:
        raise CatalogError(f"{what}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
    if missing := [key for key in required if key not in row]:
        why = "; every row says where it comes from and as of when" if missing[0] in PROVENANCE else ""
        raise CatalogError(f"{what}: {missing[0]} is missing{why}")


def _number(what: str, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CatalogError(f"{what}: {key}={value!r}: must be a number")
    return float(value)


def _figure(what: str, key: str, value: object, unit: float) -> float:
    """The figure in base units, as decimal as its row: 66.9 x 1e12 would be 66900000000000.01."""
    return float(f"{_number(what, key, value) * unit:.12g}")


def _count(what: str, key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise CatalogError(f"{what}: {key}={value!r}: must be a whole number")
    return value


def _text(what: str, key: str, value: object) -> str:
    if not isinstance(value, str) or (key in PROVENANCE and not value.strip()):
        raise CatalogError(f'{what}: {key}={value!r}: must be text in quotes, like {key} = "..."')
    return value


def _names(what: str, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise CatalogError(f'{what}: {key}={value!r}: must be a list of texts, like {key} = ["..."]')
    return tuple(value)


def _yes_or_no(what: str, key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise CatalogError(f"{what}: {key}={value!r}: must be true or false")
    return value


def _one_of(what: str, key: str, kind: type[E], value: object) -> E:
    try:
        return kind(str(value))
    except ValueError:
        raise CatalogError(f"{what}: {key}={value!r}: must be one of {', '.join(kind)}") from None


def _field_of(what: str, key: str, row: Row) -> str:
    """The field of ChipSpec, or the name of the peak, that a key of the row becomes."""
    if key not in row:
        raise CatalogError(f"{what}: unverified={key!r}: the row has no such key")
    if key in PEAKS:
        return peak_name(PEAKS[key])
    return FIGURES[key][0] if key in FIGURES else key
