"""Chips and their prices for people: the documents of ``chip_documents`` as tables, and a sentence above each.

A figure that was remembered and not read in a source is marked ``*``, a row of which no source was opened ``†``, an
assumed price ``~``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twobills.report.tables import Document, Table
from twobills.report.words import short
from twobills.specs.hardware import Role
from twobills.units import (
    GIBI,
    GIGA,
    TERA,
    show_bytes,
    show_flops_per_s,
    show_usd,
    significant,
)

REMEMBERED, UNOPENED, ASSUMED = "*", "†", "~"
LEGEND: Mapping[str, str] = {
    REMEMBERED: "remembered or inferred, not read in a source",
    UNOPENED: "no source was opened for this row",
    ASSUMED: "an assumed price",
}
ABSENT = "–"
_SHOWN: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "memory_bytes": ("Memory", lambda n: f"{significant(n / GIBI)} GiB"),
    "usable_memory_bytes": ("Memory that systems offer", lambda n: f"{significant(n / GIBI)} GiB"),
    "memory_bytes_per_s": ("Memory bandwidth", lambda rate: f"{show_bytes(rate)}/s"),
    "sram_bytes": ("On-chip memory", show_bytes),
    "scaleup_bytes_per_s": ("Links, one direction", lambda rate: f"{show_bytes(rate)}/s"),
    "scaleup_chips": ("Chips they join", lambda n: f"{n:,}"),
    "scaleout_bytes_per_s": ("Network in its usual server", lambda rate: f"{show_bytes(rate)}/s"),
    "power_w": ("Power", lambda watts: f"{watts:g} W"),
    "process_nm": ("Process", lambda nm: f"{nm:g} nm class"),
    "die_mm2": ("Dies", lambda mm2: f"{mm2:,.0f} mm²"),
    "list_price_usd": ("To buy", show_usd),
}
"""Key of the document: what it is called on the screen, and how it is shown."""


def chips_table(chips: Sequence[Document]) -> Table:
    """One line per chip; units are in the heads of the columns."""
    columns = (
        *("Chip", "Made for", "Year", "TFLOP/s", "GiB", "GB/s", "Links GB/s", "Linked", "W", "B/kFLOP", "$/h"),
        *("$/PFLOP-h", "Price is"),
    )
    return Table("Chips: 16-bit peak, memory, links one way, price of an hour", columns, [_row(c) for c in chips], 2)


def facts_table(chip: Document) -> Table:
    """Every figure of one chip and whether it was read in its source."""
    peaks = [
        (f"Peak, {dtype}", show_flops_per_s(rate), _how(chip, f"peak_flops_per_s.{dtype}"))
        for dtype, rate in chip["peak_flops_per_s"].items()
    ]
    facts = [(name, show(chip[key]), _how(chip, key)) for key, (name, show) in _SHOWN.items() if chip[key] is not None]
    derived = []
    if chip["bytes_per_flop"] is not None:
        derived.append(("Bytes for each 16-bit FLOP", significant(chip["bytes_per_flop"]), "computed"))
    if chip["usd_per_peak_pflop_hour"] is not None:
        derived.append(("A peak PFLOP/s for an hour", show_usd(chip["usd_per_peak_pflop_hour"]), "computed"))
    return Table(f"{chip['name']}, {chip['vendor']}", ("What", "Value", "How known"), [*peaks, *facts, *derived], 3)


def prices_table(chip: Document) -> Table:
    """All prices of one chip, the default first."""
    default = chip["price"]
    rows = [
        (
            f"{_kind(price)} (default)" if price == default else _kind(price),
            price["provider"] or ABSENT,
            price["region"] or ABSENT,
            price["as_of"],
            f"{show_usd(price['usd_per_chip_hour'])}{ASSUMED if price['assumed'] else ''}",
        )
        for price in sorted(chip["prices"], key=lambda price: (price != default, price["kind"], price["as_of"]))
    ]
    return Table(
        "What an hour of it costs (default: the median on demand of the newest year)",
        ("Kind", "Provider", "Region", "As of", "$/h"),
        rows,
        4,
    )


def chips_sentence(chips: Sequence[Document]) -> str:
    """How many there are for which job, and which gives most for its price and which most memory bandwidth."""
    if not chips:
        return "No chip of the catalogue fits that."
    made_for = Counter(chip["role"] for chip in chips)
    counted = ", ".join(f"{made_for[role]} for {role}" for role in Role if made_for[role])
    said = [f"{len(chips)} {'chip' if len(chips) == 1 else 'chips'}: {counted}."]
    priced = [chip for chip in chips if chip["usd_per_peak_pflop_hour"] is not None]
    year = max((chip["price"]["as_of"][:4] for chip in priced), default="")
    if current := [chip for chip in priced if chip["price"]["as_of"].startswith(year)]:
        best = min(current, key=lambda chip: float(chip["usd_per_peak_pflop_hour"]))
        said.append(
            f"At prices of {year}, {best['name']} gives the most arithmetic for a dollar: a 16-bit peak PFLOP/s for "
            f"{show_usd(best['usd_per_peak_pflop_hour'])} an hour."
        )
    if fed := [chip for chip in chips if chip["bytes_per_flop"] is not None]:
        best = max(fed, key=lambda chip: float(chip["bytes_per_flop"]))
        said.append(
            f"{best['name']} reads the most memory for each FLOP, which is what answering, token by token, waits for."
        )
    return " ".join(said)


def chip_sentence(chip: Document) -> str:
    """What one chip is, how much arithmetic it must find for each byte it reads, and what an hour costs."""
    maker = "any maker" if chip["vendor"] == "any" else chip["vendor"]
    year = f", {chip['year']}" if chip["year"] else ""
    said = [f"{chip['name']}, by {maker}{year}, is made for {_jobs(chip['role'])}."]
    if chip["bytes_per_flop"]:
        said.append(
            f"Work that does fewer than {significant(1 / chip['bytes_per_flop'])} FLOPs for each byte it reads waits "
            "for memory, as writing an answer does; training does more and waits for arithmetic."
        )
    if price := chip["price"]:
        said.append(f"An hour costs {show_usd(price['usd_per_chip_hour'])} ({_terms(price)}).")
    else:
        said.append("Nobody's price for an hour of it is in the catalogue.")
    return " ".join(said)


def legend(table: Table) -> str:
    """What the marks mean that stand in this table, nothing if there are none."""
    text = "".join(cell for row in table.rows for cell in row)
    return "; ".join(f"{mark} {meaning}" for mark, meaning in LEGEND.items() if mark in text)


def _row(chip: Document) -> tuple[str, ...]:
    peak_key = next((dtype for dtype in ("bf16", "fp16") if dtype in chip["peak_flops_per_s"]), None)
    peak = short(significant(chip["peak_flops_per_s"][peak_key] / TERA)) if peak_key else ABSENT
    price = chip["price"]
    return (
        chip["name"] + ("" if chip["verified"] else UNOPENED),
        chip["role"],
        _marked(chip, "year", str),
        peak + (REMEMBERED if f"peak_flops_per_s.{peak_key}" in chip["unverified"] else ""),
        _marked(chip, "memory_bytes", lambda n: short(significant(n / GIBI))),
        _marked(chip, "memory_bytes_per_s", lambda rate: short(significant(rate / GIGA))),
        _marked(chip, "scaleup_bytes_per_s", lambda rate: short(significant(rate / GIGA))),
        _marked(chip, "scaleup_chips", str),
        _marked(chip, "power_w", lambda watts: f"{watts:g}"),
        _or_absent(chip["bytes_per_flop"], lambda ratio: significant(ratio * 1000)),
        ABSENT if price is None else significant(price["usd_per_chip_hour"]) + (ASSUMED if price["assumed"] else ""),
        _or_absent(chip["usd_per_peak_pflop_hour"], significant),
        ABSENT if price is None else _terms(price),
    )


def _marked(chip: Document, key: str, show: Any) -> str:
    if chip[key] is None:
        return ABSENT
    return str(show(chip[key])) + (REMEMBERED if key in chip["unverified"] else "")


def _or_absent(value: float | None, show: Any) -> str:
    return ABSENT if value is None else str(show(value))


def _how(chip: Document, key: str) -> str:
    how = "read" if chip["verified"] else f"not opened {UNOPENED}"
    if key in chip["unverified"]:
        how = f"remembered {REMEMBERED}"
    terms = (chip["list_price_as_of"], chip["list_price_note"]) if key == "list_price_usd" else ()
    return ", ".join(filter(None, (how, *terms)))


def _kind(price: Document) -> str:
    return str(price["kind"]).replace("_1y", " for 1 year").replace("_3y", " for 3 years").replace("_", " ")


def _terms(price: Document) -> str:
    return ", ".join(filter(None, (_kind(price), price["provider"], price["as_of"])))


def _jobs(role: str) -> str:
    return "both jobs" if role == Role.BOTH else role
