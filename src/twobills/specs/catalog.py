"""The catalogue: chips, prices, models and laws that we or a user wrote down, one row each, with source and date.

The only reader of ``data/*.toml``. An unknown key or a missing source is an error: a fact nobody can check is not
a fact.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, TypeVar

from twobills.errors import CatalogError
from twobills.specs.dtype import DType
from twobills.specs.hardware import ChipSpec
from twobills.specs.model import ModelSpec
from twobills.specs.prices import ChipPrice
from twobills.units import GIGA, TERA, per_hour_to_per_s

THIS_MACHINE_CPU = "cpu-core"
T = TypeVar("T")
_PROVENANCE = {"source", "as_of"}
_PEAKS = {
    "fp32_tflops": DType.FP32,
    "bf16_tflops": DType.BF16,
    "fp8_tflops": DType.FP8,
    "int8_tops": DType.INT8,
}
_CHIP_KEYS = {
    "vendor",
    "watts",
    "memory_gb",
    "memory_gb_per_s",
    "verified",
    "reported_as",
    "note",
    *_PEAKS,
    *_PROVENANCE,
}
_PRICE_KEYS = {"chip", "usd_per_hour", "kind", "assumed", *_PROVENANCE}


def chip(name: str) -> ChipSpec:
    """The chip of that name. Raises CatalogError, listing those there are."""
    return _find(chips(), name, "chip")


def chip_price(chip_name: str) -> ChipPrice:
    """The default price of a chip. Raises CatalogError where the catalogue has none."""
    return _find(prices(), chip_name, "price for chip")


def model(name: str) -> ModelSpec:
    """The model of that name. Raises CatalogError, listing those there are."""
    return _find(models(), name, "model")


@cache
def chips() -> Mapping[str, ChipSpec]:
    """All chips of the catalogue."""
    return {name: _chip(name, row) for name, row in read_rows("chips").items()}


@cache
def prices() -> Mapping[str, ChipPrice]:
    """The first price of each chip."""
    found: dict[str, ChipPrice] = {}
    for row in read_rows("prices")["price"]:
        _check_keys(f"price of {row.get('chip')}", row, _PRICE_KEYS)
        price = ChipPrice(
            chip=row["chip"],
            usd_per_chip_s=per_hour_to_per_s(row["usd_per_hour"]),
            kind=row["kind"],
            source=row["source"],
            as_of=row["as_of"],
            assumed=row["assumed"],
        )
        found.setdefault(price.chip, price)
    return found


@cache
def models() -> Mapping[str, ModelSpec]:
    """All models of the catalogue."""
    found = {}
    for name, row in read_rows("models").items():
        shape = {key: value for key, value in row.items() if key not in {*_PROVENANCE, "verified", "published_params"}}
        found[name] = ModelSpec(name=name, **shape)
    return found


@cache
def read_rows(table: str) -> Mapping[str, Any]:
    """The raw rows of one catalogue file, by name."""
    text = resources.files("twobills.data").joinpath(f"{table}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _chip(name: str, row: Mapping[str, Any]) -> ChipSpec:
    _check_keys(f"chip {name}", row, _CHIP_KEYS)
    return ChipSpec(
        name=name,
        vendor=row["vendor"],
        watts=row["watts"],
        peak_flops_per_s={dtype: row[key] * TERA for key, dtype in _PEAKS.items() if key in row},
        memory_bytes=row["memory_gb"] * GIGA if "memory_gb" in row else None,
        memory_bytes_per_s=row["memory_gb_per_s"] * GIGA if "memory_gb_per_s" in row else None,
        source=row["source"],
        as_of=row["as_of"],
        verified=row["verified"],
        reported_as=tuple(row.get("reported_as", ())),
        note=row.get("note", ""),
    )


def _check_keys(what: str, row: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(row) - known):
        raise CatalogError(f"{what}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    if missing := sorted(_PROVENANCE - set(row)):
        raise CatalogError(f"{what}: {missing[0]} is missing; every row says where it comes from")


def _find(rows: Mapping[str, T], name: str, what: str) -> T:
    try:
        return rows[name.lower()]
    except KeyError:
        raise CatalogError(f"{what} {name!r}: not in the catalogue; it has {', '.join(sorted(rows))}") from None
