"""What ``twobills size`` says in words: the sentence names the best, tables hold what is there and say why if not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from twobills.flows.size import size
from twobills.flows.size_request import SizeRequest
from twobills.report import size_tables as tables


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return size(
        SizeRequest(
            quality_of="llama-3-8b",
            answers="1e10",
            train_chips="h100-sxm",
            serve_chips="h200",
            samples=2,
            params="2e10",
        )
    )


def test_the_sentence_names_the_best_the_bill_and_the_doubt(found: dict[str, Any]) -> None:
    words = tables.size_sentence(found)
    assert words.startswith("To be as good as llama-3-8b (by besiroglu-2024")
    assert "10.0B times in 730 days" in words
    assert "cost least: $" in words
    assert " to $" in words
    assert "extrapolation" in words


def test_every_size_that_was_compared_has_a_row(found: dict[str, Any]) -> None:
    rows = tables.sizes_table(found).rows
    assert [row[0] for row in rows] == ["best in dollars", "llama-3-8b", "compute-optimal", "best in FLOPs", "as asked"]
    assert all(len(row) == len(tables.sizes_table(found).columns) for row in rows)
    assert rows[0][-1] == "0 %"


def test_an_option_without_figures_says_why(found: dict[str, Any]) -> None:
    rows = {row[0]: row for row in tables.options_table(found).rows}
    assert "--unique-tokens" in rows["repeated data"][-1]
    assert rows["repeated data"][1] == tables.NONE
    assert "teacher $" in rows["distilled student"][-1]
    assert rows["2 samples an answer"][4].startswith("$")


def test_from_which_demand_it_pays_is_said_in_both(found: dict[str, Any]) -> None:
    in_flops, in_dollars = tables.pays_sentences(found)
    assert "In FLOPs the size of llama-3-8b is cheaper than" in in_flops
    assert "In dollars it is cheaper from" in in_dollars


def test_nothing_is_said_of_demand_without_a_model(found: dict[str, Any]) -> None:
    assert list(tables.pays_sentences({**found, "pays": {"model": None}})) == []


def test_a_size_that_never_pays_says_so(found: dict[str, Any]) -> None:
    never = copy.deepcopy(found)
    never["pays"]["in_flops"].update(pays_from_answers=None, reason="it is no smaller")
    never["pays"]["in_dollars"].update(pays_from_answers=None, reason="never cheaper", near_best_from_answers=None)
    in_flops, in_dollars = tables.pays_sentences(never)
    assert in_flops.endswith("never pays: it is no smaller.")
    assert "above the cheapest size at best" in in_dollars


def test_how_flat_it_is_and_how_much_was_priced(found: dict[str, Any]) -> None:
    words = tables.flat_sentence(found)
    assert words.startswith("Within 5 % of the best lie")
    assert f"{found['grid']['n_points']:,} combinations" in words


def test_the_cheapest_option_is_named(found: dict[str, Any]) -> None:
    options = [each for each in found["options"] if each["total_usd"] is not None and each["kind"] != "distilled"]
    cheapest = min(options, key=lambda each: float(each["total_usd"]))
    assert cheapest["label"] in tables.cheapest_sentence(found)
    only = {**found, "cheapest_option": "as it is"}
    assert "None of them is cheaper" in tables.cheapest_sentence(only)


def test_options_beyond_their_laws_are_told(found: dict[str, Any]) -> None:
    assert "outside what their laws were fitted on" in (tables.outside_sentence(found) or "")
    within = {**found, "options": [{**each, "outside": []} for each in found["options"]]}
    assert tables.outside_sentence(within) is None
