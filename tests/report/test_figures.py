"""Figures: SVG that stands in a page beside others, the same bytes for the same data, words that stay words."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.report.run_document import make_document
from twobills.report.figures.bills import bill_figure, both_bills_figure
from twobills.report.figures.crossover import crossover_figure
from twobills.report.figures.loss import loss_figure, quality_figure
from twobills.report.figures.style import standalone
from twobills.report.figures.waterfall import steps, waterfall_figure
from twobills.units import show_usd

Draw = Callable[[dict[str, Any]], str | None]
FIGURES: dict[str, Draw] = {
    "training bill": lambda d: bill_figure(d["bills"]["training"]),
    "inference bill": lambda d: bill_figure(d["bills"]["inference"]),
    "both bills": lambda d: both_bills_figure(d["bills"]),
    "training gaps": lambda d: waterfall_figure("training", d["bills"]["training"]["gaps"]),
    "inference gaps": lambda d: waterfall_figure("inference", d["bills"]["inference"]["gaps"]),
    "crossover": lambda d: crossover_figure(d["bills"]["training"]["measured"]["total_usd"], d["life"]),
    "loss": lambda d: loss_figure(d["training"]["curve"]),
    "quality": lambda d: quality_figure(d["quality"]),
}


@pytest.fixture
def document() -> dict[str, Any]:
    return make_document()


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_it_is_one_svg_element_without_a_fixed_size(draw: Draw, document: dict[str, Any]) -> None:
    svg = draw(document)
    assert svg is not None
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("}svg")
    assert root.get("viewBox")
    assert root.get("width") is None
    assert "<?xml" not in svg
    assert "<!DOCTYPE" not in svg
    assert "DejaVu" not in svg


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_the_same_data_gives_the_same_bytes(draw: Draw, document: dict[str, Any]) -> None:
    assert draw(document) == draw(make_document())


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_every_reference_finds_its_id_in_the_same_figure(draw: Draw, document: dict[str, Any]) -> None:
    svg = draw(document) or ""
    ids = re.findall(r' id="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) == set(ids)


def test_figures_on_one_page_share_no_id(document: dict[str, Any]) -> None:
    ids = [i for draw in FIGURES.values() for i in set(re.findall(r' id="([^"]+)"', draw(document) or ""))]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("job", ["training", "inference"])
def test_a_bill_shows_both_totals_as_text(job: str, document: dict[str, Any]) -> None:
    bill = document["bills"][job]
    svg = bill_figure(bill)
    assert f">{show_usd(bill['measured']['total_usd'])}</text>" in svg
    assert f">{show_usd(bill['predicted']['total_usd'])}</text>" in svg


def test_a_bill_without_a_plan_is_drawn_and_says_so(document: dict[str, Any]) -> None:
    bill = {**document["bills"]["training"], "predicted": None, "predicted_interval": None}
    assert "no figure" in bill_figure(bill)


def test_a_bill_of_nothing_is_drawn(document: dict[str, Any]) -> None:
    assert "$0.00" in bill_figure(make_free(document)["bills"]["inference"])


def test_the_waterfall_ends_where_the_meter_is(document: dict[str, Any]) -> None:
    for bill in document["bills"].values():
        rows = steps(bill["gaps"])
        assert rows[-2].end_usd == pytest.approx(rows[-1].end_usd)
        assert [row.is_total for row in rows] == [True, False, False, False, True]


def test_a_waterfall_may_pass_below_nothing() -> None:
    gaps = {"planned_usd": 1.0, "work_usd": -3.0, "speed_usd": 2.5, "price_usd": 0.0, "measured_usd": 0.5}
    assert "-$3.00" in waterfall_figure("training", gaps)


def test_nothing_crosses_nothing_is_drawn(document: dict[str, Any]) -> None:
    never = [{**point, "crossover_days": None} for point in document["life"]]
    assert crossover_figure(1.0, never) is None
    assert crossover_figure(1.0, []) is None
    assert crossover_figure(0.0, document["life"]) is None


@pytest.mark.parametrize("days", [1e-9, 1.0, 1e9])
def test_a_single_crossing_at_any_scale_is_drawn(days: float, document: dict[str, Any]) -> None:
    point = {**document["life"][0], "crossover_days": days}
    assert crossover_figure(5e6, [point]) is not None


def test_a_loss_curve_needs_two_numbers() -> None:
    def point(loss: float | None) -> dict[str, Any]:
        return {"n_tokens": 10, "loss": loss}

    assert loss_figure([]) is None
    assert loss_figure([point(8.0)]) is None
    assert loss_figure([point(8.0), point(None), point(float("nan"))]) is None


def test_quality_without_compressors_and_without_a_model() -> None:
    alone = {"heldout_bits_per_byte": 1.5, "gzip_bits_per_byte": None, "xz_bits_per_byte": None}
    svg = quality_figure(alone)
    assert svg is not None
    assert "gzip" not in svg
    assert quality_figure({"heldout_bits_per_byte": None}) is None


def test_a_figure_by_itself_knows_both_colour_schemes(document: dict[str, Any]) -> None:
    svg = standalone(both_bills_figure(document["bills"]))
    ElementTree.fromstring(svg)
    assert "prefers-color-scheme: dark" in svg


def test_pyplot_stays_out() -> None:
    code = "import sys, twobills.report.page; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def make_free(document: dict[str, Any]) -> dict[str, Any]:
    """The same document with an inference bill of nothing."""
    bill = document["bills"]["inference"]
    for side in ("measured", "predicted"):
        bill[side]["total_usd"] = 0.0
        for line in bill[side]["phases"].values():
            line["usd"] = 0.0
    bill["predicted_interval"] = {"value": 0.0, "p5": 0.0, "p95": 0.0}
    return document
