from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from twobills.flows.plan_inference import InferenceRequest, plan_inference_document
from twobills.report import serving_sentences as sentences
from twobills.report import serving_tables as tables
from twobills.report.tables import Table
from twobills.units import show_seconds, show_usd

ASKED = InferenceRequest(
    model="llama-3.1-8b", chips="h200:8", prompt_tokens=1000, answer_tokens=300, requests_per_s=0.2
)
EVERY = {
    "a rate": ASKED,
    "clients, cached": replace(ASKED, requests_per_s=None, concurrency=64.0, cached_frac=0.5),
    "two pools, owned": replace(ASKED, disaggregated=True, owned=True),
    "guesses": replace(ASKED, n_guesses=3, acceptance=0.7),
    "no power known": replace(ASKED, chips="cerebras-wse-3", usd_per_chip_hour=100.0),
    "free": replace(ASKED, usd_per_chip_hour=0.0),
}


@pytest.fixture(params=EVERY, scope="module")
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    return plan_inference_document(EVERY[request.param], with_parts=True)


def all_tables(document: dict[str, Any]) -> list[Table]:
    made = [tables.speed_table(document), tables.price_table(document), tables.day_table(document)]
    return [*made, tables.plan_and_memory_table(document), tables.step_table(document)]


def cells(table: Table) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in table.rows}


def test_every_row_has_a_cell_for_each_column(document: dict[str, Any]) -> None:
    for table in all_tables(document):
        assert table.rows
        assert all(len(row) == len(table.columns) for row in table.rows), table.title
        assert not any("nan" in cell or "None" in cell for row in table.rows for cell in row), table.title


def test_tables_show_the_documents_figures(document: dict[str, Any]) -> None:
    served = document["inference"]
    assert cells(tables.speed_table(document))["Each further token"][1] == show_seconds(served["tpot_s"]["value"])
    prices = cells(tables.price_table(document))["1M output"]
    assert prices[1] == show_usd(served["usd_per_mtok"]["output"]["value"])
    assert prices[4] == show_usd(served["usd_per_mtok_reserved"]["output"]["value"])
    assert next(iter(served["bound_by"])) in cells(tables.plan_and_memory_table(document))["A step waits for"][0]
    day = cells(tables.day_table(document))["total"]
    assert day[-1] == show_usd(served["bill"]["total_usd"])


def test_sentences_say_the_cost_the_payers_and_what_binds(document: dict[str, Any]) -> None:
    served = document["inference"]
    said = sentences.serving_sentence(document)
    assert show_usd(served["usd_per_request_reserved"]["value"]) in said
    assert document["model"]["name"] in said
    payers = sentences.payers_sentence(document)
    assert ("cached input" in payers) == bool(served["cached_frac"])
    assert ("waits for requests" in payers) == (served["bill"]["phases"]["idle"]["chip_s"] > 1)
    assert document["step_parts"][0]["name"] in sentences.step_sentence(document)
    assert document["assumed"][0] in sentences.assumed_sentence(document["assumed"])


def test_what_saves_most_is_named() -> None:
    levers = [{"change": "a", "saves_usd": 0.1}, {"change": "b", "saves_usd": 0.4}]
    assert sentences.levers_sentence(levers, 1.0) == "Of what was tried, b would save most: 40.0 % of it."
    assert sentences.levers_sentence([], 1.0) == "Nothing that was tried saves much."
    assert sentences.levers_sentence([{"change": "a", "saves_usd": 0.001}], 1.0).startswith("Nothing")
