"""From what traffic on using a model outweighs building it: the table's arithmetic and its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twobills.flows.two_bills import two_bills_document, write_two_bills
from twobills.report.two_bills_page import crossing_table, inputs_table, models_table, two_bills_sentence
from twobills.specs import catalog
from twobills.units import DAYS_PER_YEAR


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return two_bills_document()


def test_at_least_six_models_each_sourced() -> None:
    rows = catalog.read_rows("two_bills")
    assert len(rows) >= 6
    assert set(rows) <= set(catalog.models())
    for row in rows.values():
        assert row["source"]
        assert row["as_of"]
        assert row["reported_chip_hours"] > 0


def test_a_year_at_the_traffic_of_balance_costs_the_training(document: dict[str, Any]) -> None:
    for model in document["models"]:
        requests = model["equal_requests_per_day"]["value"] * DAYS_PER_YEAR
        assert requests / 1e6 * model["usd_per_million_requests"] == pytest.approx(model["training_usd"]["value"])
        assert model["dwarfs_requests_per_day"]["value"] == pytest.approx(10 * model["equal_requests_per_day"]["value"])
        assert model["equal_requests_per_day"]["p5"] < model["equal_requests_per_day"]["value"]


def test_ten_times_the_traffic_crosses_in_about_a_tenth_of_the_time(document: dict[str, Any]) -> None:
    """Whole machines make it a little less than that where few are needed."""
    for model in document["models"]:
        *_, before, last = model["crossover_days"]
        assert last == pytest.approx(before / 10, rel=0.1)


def test_forecast_chip_hours_are_near_what_the_makers_report(document: dict[str, Any]) -> None:
    """The forecast knows tokens and chips only; the makers' hours hold restarts and whatever else was counted."""
    for model in document["models"]:
        assert 0.4 < model["chip_hours"] / model["reported_chip_hours"] < 2.5


def test_the_page_has_every_model_source_and_assumption(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "two-bills.md"
    write_two_bills(document, path)
    text = path.read_text()
    assert text.startswith("# The two bills of well-known models")
    assert two_bills_sentence(document) in text
    for model in document["models"]:
        assert model["source"] in text
        assert all(line in text for line in model["assumed"])
    tables = (models_table(document), crossing_table(document), inputs_table(document))
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}
    assert all(len(line.split("|")) == len(tables[0].columns) + 2 for line in text.splitlines() if "| --:" in line[:9])


def test_the_published_page_is_of_the_same_models() -> None:
    text = (Path(__file__).parents[2] / "docs" / "two-bills.md").read_text()
    assert all(f"| {name}" in text for name in catalog.read_rows("two_bills"))
