"""The page, figures, sentences and tables of a plan of both bills."""

from __future__ import annotations

import copy
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from twobills.flows.plan import plan_both
from twobills.report import life_sentences as sentences
from twobills.report import life_tables as tables
from twobills.report.figures.life import life_figure, tornado_figure
from twobills.report.life_page import life_page
from twobills.specs.plan_file import PlanSpec
from twobills.units import show_usd


@pytest.fixture(scope="module")
def planned() -> dict[str, Any]:
    """Crosses within its life, with a version that comes on the way."""
    return plan_both(
        PlanSpec(
            model="llama-3.1-8b",
            tokens="1T",
            train_chips="h100-sxm:256",
            serve_chips="h100-sxm:1",
            requests_per_day=1e8,
            growth=0.05,
            version_months=12,
            traffic_factor=2.0,
        )
    )


@pytest.fixture
def document(planned: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(planned)


def page(document: dict[str, Any]) -> str:
    return life_page(document, version="0", date="1 May 2026")


def test_the_page_opens_with_no_network_and_is_escaped(document: dict[str, Any]) -> None:
    document["model"]["name"] = "<script>alert(1)</script>"
    html = page(document)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert not re.search(r'(?:src|href)="(?!#)', html)
    assert "prefers-color-scheme: dark" in html
    assert html.count("<svg") == 2


def test_the_page_says_every_sentence_and_both_amounts(document: dict[str, Any]) -> None:
    html = page(document)
    for name in ("training_usd", "inference_usd"):
        assert f'<div class="amount">{show_usd(document["life"][name]["value"])}</div>' in html
    for line in document["assumed"]:
        assert line.rpartition(": ")[2].split("'")[0][:20] in html
    assert "of the traffic" in html


def test_figures_are_well_formed_and_say_what_they_show(document: dict[str, Any]) -> None:
    for svg in (life_figure(document["life"]), tornado_figure(document["life"]) or ""):
        root = ET.fromstring(svg)
        assert root.attrib["role"] == "img"
    words = life_figure(document["life"])
    assert "cross after" in words
    document["life"] |= {"crossover_days": {"value": None, "p5": None, "p95": None}, "crosses_within_life": False}
    assert "they do not cross" in life_figure(document["life"])
    assert tornado_figure({**document["life"], "tornado": []}) is None


def test_the_same_plan_gives_the_same_page(document: dict[str, Any]) -> None:
    assert page(document) == page(document)


def test_the_sentence_says_when_they_cross(document: dict[str, Any]) -> None:
    words = sentences.life_sentence(document)
    assert "Training, paid 2 times, should cost" in words
    assert "Inference overtakes training after" in words
    assert f"on {document['life']['crossover_date']} if service starts today" in words
    document["life"]["crosses_within_life"] = False
    assert "were it in service so long" in sentences.life_sentence(document)
    document["life"] |= {"crossover_days": {"value": None, "p5": 5.0, "p95": None}, "reason": "inference does not"}
    assert "Inference does not; over" in sentences.life_sentence(document)
    document["life"]["crossover_days"] = {"value": 0.0, "p5": 0.0, "p95": 0.0}
    assert "from the first answer" in sentences.life_sentence(document)
    document["life"]["total_usd"] = {"value": 0.0, "p5": 0.0, "p95": 0.0}
    assert "Nothing is paid for" in sentences.life_sentence(document)


def test_a_side_that_never_comes_reads_never(document: dict[str, Any]) -> None:
    document["life"]["crossover_days"] = {"value": 10.0, "p5": 5.0, "p95": None}
    row = next(row for row in tables.both_table(document).rows if row[0] == "Inference overtakes after")
    assert row[1:] == ("5.00 days", "10.0 days", "never")


def test_the_three_assumptions_come_with_how_to_change_them(document: dict[str, Any]) -> None:
    words = sentences.assumptions_sentence(document)
    assert words.count("to change it") == 3
    document["life"]["top_assumptions"] = []
    assert "Nothing" in sentences.assumptions_sentence(document)


def test_what_a_little_off_is_worth(document: dict[str, Any]) -> None:
    document["life"]["shave"] = {
        "frac": 0.01,
        "usd_per_year": {"value": 5e5, "p5": 4e5, "p95": 8e5},
        "usd_over_life": {"value": 1e6, "p5": 8e5, "p95": 1.6e6},
        "training_frac": 0.2,
    }
    words = sentences.shave_sentence(document)
    assert words.startswith("1 % off the cost of each answer is worth $500k a year")
    assert "up to $1.00M may be spent once to get it, 20.0 % of what training costs" in words


def test_two_plans_differ_in_what_was_asked_and_in_what_it_moves(document: dict[str, Any]) -> None:
    other = copy.deepcopy(document)
    other["plan"]["years"] = 3.0
    other["life"]["total_usd"]["value"] *= 2
    rows = {row[0]: row[1:] for row in tables.diff_table(document, other, ("a", "b")).rows}
    assert rows["years"] == ("–", "3")
    assert set(rows) == {"years", "Both"}
    assert "(100 %)" in sentences.diff_sentence(document, other, ("a", "b"))


def test_no_split_is_said_in_words(document: dict[str, Any]) -> None:
    document["life"]["split"] = None
    assert "cannot be told" in sentences.split_sentence(document)
    assert "cannot be told" in page(document)
