"""What is said of a search for serving, and its picture."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from twobills.flows.search_inference import ServingSearchRequest, search
from twobills.report.figures.serving_front import serving_front
from twobills.report.serving_search_tables import (
    best_table,
    describe,
    front_table,
    ranking_table,
    serving_search_sentence,
)

ASKED = ServingSearchRequest(
    model="llama-3.1-8b",
    chips="h200:8,b200:8",
    prompt_tokens=4000,
    answer_tokens=500,
    ttft="1000ms",
    tpot="20ms",
    usd_per_chip_hour="h200=2,b200=4",
)
FOUND = search(ASKED)


def test_the_sentence_says_what_wins_and_what_the_other_way_would_cost() -> None:
    sentence = serving_search_sentence(FOUND)
    best, other = FOUND["modes"]
    assert sentence.startswith(f"Of {FOUND['n_candidates']:,} ways to serve llama-3.1-8b on prompts of 4.00k")
    assert f"{FOUND['n_meet']:,} of them meet TTFT 1.00 s, TPOT 20.0 ms; the cheapest, on " in sentence
    assert "Reading prompts in" in sentence
    assert other["usd_per_mtok"]["value"] >= best["usd_per_mtok"]["value"]


def test_without_anything_that_meets_it_the_sentence_says_so() -> None:
    sentence = serving_search_sentence({**FOUND, "n_meet": 0, "ranking": [{**FOUND["ranking"][0], "meets": False}]})
    assert "none of them meet TTFT" in sentence
    assert "the closest, on" in sentence


def test_ways_are_written_briefly() -> None:
    plan = {"tp": 2, "pp": 1, "ep": 16, "dp": 8}
    row = {"n_instances": 3, "plan": plan, "prefill": None}
    assert describe(row) == "3x tp2ep16dp8"
    pool = {"n_instances": 1, "plan": {"tp": 4, "pp": 2, "ep": 1, "dp": 1}, "prompts": 2}
    assert describe({**row, "prefill": pool}) == "1x tp4pp2 > 3x tp2ep16dp8"


def test_tables_have_a_row_for_each_way() -> None:
    assert [row[0].partition(":")[0] for row in best_table(FOUND).rows] == [row["chip"] for row in FOUND["best"]]
    assert len(ranking_table(FOUND).rows) == len(FOUND["ranking"])
    shown = front_table(FOUND, 4)
    assert len(shown.rows) == 4
    assert f"(4 of {len(FOUND['front'])}; --json has all)" in shown.title


def test_the_picture_is_a_picture() -> None:
    svg = serving_front(FOUND, ".svg").decode()
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert "h200-sxm" in svg
    assert "b200" in svg
    assert serving_front(FOUND, ".png").startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize("kind", [".svg", ".png"])
def test_the_same_search_is_the_same_picture(kind: str) -> None:
    assert serving_front(FOUND, kind) == serving_front(FOUND, kind)
