"""Chips for people: what is not verified shows, and the sentences say what the figures say."""

from __future__ import annotations

from typing import Any

import pytest

from twobills.report.chip_documents import chip_document
from twobills.report.chip_tables import (
    chip_sentence,
    chips_sentence,
    chips_table,
    facts_table,
    legend,
    prices_table,
)
from twobills.specs import catalog


def document(name: str) -> dict[str, Any]:
    return chip_document(catalog.chip(name), catalog.chip_prices(name))


def test_every_remembered_figure_is_marked() -> None:
    for name in catalog.chips():
        found = document(name)
        marked = sum("*" in how for _, _, how in facts_table(found).rows)
        assert marked == len(set(found["unverified"]) - {"year", "memory_kind"}), name


def test_a_row_whose_source_was_not_opened_is_marked() -> None:
    opened, unopened = document("h100-sxm"), document("a800-sxm-80gb")
    assert [row[0] for row in chips_table([opened, unopened]).rows] == ["h100-sxm", "a800-sxm-80gb†"]
    assert not any("†" in cell for row in facts_table(opened).rows for cell in row)
    assert "no source was opened" in legend(chips_table([unopened]))
    assert legend(chips_table([])) == ""


def test_an_assumed_price_is_marked() -> None:
    table = prices_table(document("cpu-core"))
    assert table.rows[0][-1].endswith("~")
    assert "an assumed price" in legend(table)


def test_the_default_price_stands_first_and_once() -> None:
    found = document("h100-sxm")
    kinds = [row[0] for row in prices_table(found).rows]
    assert [kind.endswith("(default)") for kind in kinds] == [True, *[False] * (len(kinds) - 1)]
    assert len(kinds) == len(found["prices"])
    assert {"reserved for 1 year", "reserved for 3 years", "spot"} <= set(kinds)


def test_the_sentence_names_the_cheapest_and_the_widest() -> None:
    chips = [document(name) for name in ("h100-sxm", "h200-sxm", "l4", "gb200")]
    sentence = chips_sentence(chips)
    priced = [chip for chip in chips if chip["usd_per_peak_pflop_hour"]]
    cheapest = min(priced, key=lambda chip: float(chip["usd_per_peak_pflop_hour"]))["name"]
    widest = max(chips, key=lambda chip: float(chip["bytes_per_flop"]))["name"]
    assert f"{cheapest} gives the most arithmetic for a dollar" in sentence
    assert f"{widest} reads the most memory for each FLOP" in sentence
    assert sentence.startswith("4 chips: 1 for inference, 3 for both.")
    assert "No chip" in chips_sentence([])


@pytest.mark.parametrize("name", list(catalog.chips()))
def test_every_chip_has_its_sentence(name: str) -> None:
    sentence = chip_sentence(document(name))
    assert sentence.startswith(f"{name}, by ")
    assert ("Nobody's price" in sentence) == (not catalog.chip_prices(name))
