"""Both bills over a life: the document, from data sheets and from the machine one sits at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.machines import machine
from twobills.errors import RequestError
from twobills.flows.plan import plan_both
from twobills.flows.plan_request import asked_plan, save_plan
from twobills.report.documents import to_json_text
from twobills.specs.dtype import DType
from twobills.specs.life import DemandPoint
from twobills.specs.plan_file import PlanSpec
from twobills.units import DAYS_PER_YEAR

ASKED = PlanSpec(
    model="llama-3.1-70b",
    tokens="15T",
    train_chips="h100-sxm:8192",
    serve_chips="h200:8",
    requests_per_day=1e7,
)
ENDS = {"value", "p5", "p95"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return plan_both(ASKED)


def intervals(document: dict[str, Any]) -> dict[str, dict[str, float]]:
    life, inference = document["life"], document["inference"]
    named = {f"usd_per_mtok.{kind}": inference["usd_per_mtok"][kind] for kind in ("input", "cached_input", "output")}
    named |= {name: life[name] for name in ("crossover_days", "inference_share", "total_usd", "usd_per_answer")}
    return named | {"training": document["training"]["total_usd"], "usd_per_day": inference["usd_per_day"]}


def test_the_figures_that_are_promised_have_intervals(document: dict[str, Any]) -> None:
    for name, figure in intervals(document).items():
        assert set(figure) == ENDS, name
        assert 0 < figure["p5"] <= figure["value"] <= figure["p95"], name
    json.loads(to_json_text(document))


def test_the_days_dollars_are_those_of_its_tokens(document: dict[str, Any]) -> None:
    """Input and output tokens of all requests at their prices are what the machines cost, within what is idle."""
    price, day = document["inference"]["usd_per_mtok_reserved"], document["inference"]["usd_per_day"]
    usd = 1e7 * (1000 * price["input"]["value"] + 300 * price["output"]["value"]) / 1e6
    assert usd == pytest.approx(day["value"], rel=1e-6)
    machines = document["inference"]["n_machines"]["value"]
    assert machines * document["inference"]["usd_per_machine_day"] == pytest.approx(day["value"])
    assert document["inference"]["usd_per_machine_day"] == pytest.approx(8 * 24 * 3.5)  # the catalogue's $3.50


def test_tokens_of_busy_machines_cost_no_more_than_reserved_ones(document: dict[str, Any]) -> None:
    inference = document["inference"]
    for kind in ("input", "cached_input", "output"):
        used, reserved = (inference[f"usd_per_mtok{view}"][kind]["value"] for view in ("", "_reserved"))
        assert used <= reserved * (1 + 1e-9)
    idle = plan_both(replace(ASKED, requests_per_day=1000.0))["inference"]
    assert idle["usd_per_mtok"]["output"]["value"] < 0.5 * idle["usd_per_mtok_reserved"]["output"]["value"]


def test_as_many_machines_as_keep_each_below_the_fill(document: dict[str, Any]) -> None:
    at_most = document["inference"]["requests_per_day_per_machine_at_most"]
    n = document["inference"]["n_machines"]["value"]
    assert 1e7 / n <= 0.8 * at_most < 1e7 / (n - 1)
    assert document["inference"]["utilization_frac"] <= 0.8 + 1e-6


def test_a_constant_life_crosses_where_training_over_a_day_says(document: dict[str, Any]) -> None:
    expected = document["training"]["total_usd"]["value"] / document["inference"]["usd_per_day"]["value"]
    assert document["life"]["crossover_days"]["value"] == pytest.approx(expected)
    life = document["life"]
    inference = document["inference"]["usd_per_day"]["value"] * 2 * DAYS_PER_YEAR
    assert life["inference_share"]["value"] == pytest.approx(inference / (inference + life["training_usd"]["value"]))


def test_both_halves_split_add_up_to_their_bills(document: dict[str, Any]) -> None:
    life = document["life"]
    for job in ("training", "inference"):
        assert sum(part[job] for part in life["split"]["parts"]) == pytest.approx(life[f"{job}_usd"]["value"])


def test_the_tornado_falls_and_its_top_three_say_how_to_change_them(document: dict[str, Any]) -> None:
    swings = [swing["swing_usd"] for swing in document["life"]["tornado"]]
    assert swings == sorted(swings, reverse=True)
    assert len(document["life"]["top_assumptions"]) == 3
    assert all(each["change"] for each in document["life"]["tornado"])
    named = {each["name"] for each in document["life"]["tornado"]}
    assert {"traffic", "length of answers", "the training forecast", "price of a serving chip"} <= named


def test_one_per_cent_off_each_answer_is_one_per_cent_of_the_bill(document: dict[str, Any]) -> None:
    shave, life = document["life"]["shave"], document["life"]
    assert shave["usd_over_life"]["value"] == pytest.approx(0.01 * life["inference_usd"]["value"])
    assert shave["usd_per_year"]["value"] == pytest.approx(0.005 * life["inference_usd"]["value"])
    ten = plan_both(replace(ASKED, shave=0.1))["life"]["shave"]
    assert ten["usd_per_year"]["value"] == pytest.approx(10 * shave["usd_per_year"]["value"])


def test_the_curves_end_at_the_lifes_sums(document: dict[str, Any]) -> None:
    life = document["life"]
    for job in ("training_usd", "inference_usd"):
        curve = life["curves"][job]
        assert curve["value"][-1] == pytest.approx(life[job]["value"])
        assert all(a <= b <= c for a, b, c in zip(curve["p5"], curve["value"], curve["p95"], strict=True))


def test_traffic_from_a_table_and_in_doubt() -> None:
    rows = (DemandPoint(0, 1e6), DemandPoint(365, 2e7))
    asked = replace(ASKED, requests_per_day=None, traffic=rows, traffic_factor=2.0)
    wide, sure = plan_both(asked), plan_both(replace(asked, traffic_factor=1.0))
    assert wide["life"]["n_requests"]["p95"] == pytest.approx(2 * wide["life"]["n_requests"]["value"], rel=0.02)
    assert wide["life"]["inference_usd"]["p95"] > sure["life"]["inference_usd"]["p95"]
    assert wide["inference"]["most_machines"]["value"] > wide["inference"]["n_machines"]["value"]


def test_longer_answers_and_more_traffic_cost_more() -> None:
    small = replace(ASKED, model="llama-3.1-8b", train_chips="h100-sxm:1024", serve_chips="h200:1")
    changes: list[dict[str, Any]] = [{}, {"answer_tokens": 900}, {"requests_per_day": 3e7}]
    changes += [{"cached": 0.5}, {"price_decline": 0.3}]
    usd = [plan_both(replace(small, **change))["life"]["inference_usd"]["value"] for change in changes]
    assert min(usd[1:3]) > usd[0] > max(usd[3:])


def test_a_crossing_that_does_not_come_is_null_with_a_reason() -> None:
    life = plan_both(replace(ASKED, requests_per_day=1000.0, price_decline=0.3))["life"]
    assert life["crossover_days"]["value"] is None
    assert life["crossover_date"] is None
    assert "does not catch up" in life["reason"]


def test_a_few_of_the_chips_serve_where_no_machine_is_named() -> None:
    """Two of these chips hold the weights but hardly a cache, so they answer little each; one holds nothing."""
    document = plan_both(PlanSpec(model="llama-3.1-70b", tokens="1T", chips="h100-sxm:512"))
    assert document["chip"]["n_chips"] == 512
    assert document["chip"]["n_serving_chips"] in (4, 8)
    small = plan_both(PlanSpec(model="llama-3.1-8b", tokens="1T", chips="h100-sxm:64"))
    assert small["chip"]["n_serving_chips"] == 1


def test_this_machine_has_the_same_shape() -> None:
    asked = PlanSpec(model="smollm2-135m", tokens="1e9", chips="this", batch_size=1, seq_len=1024)
    document = plan_both(asked, machine(), DType.BF16)
    life = document["life"]
    assert document["chip"]["n_serving_chips"] == 2
    assert set(life["total_usd"]) == ENDS
    assert life["crossover_days"]["value"] == pytest.approx(
        life["training_usd"]["value"] / document["inference"]["usd_per_day"]["value"]
    )
    tokens = {"input": 1000, "output": 300}
    for view, usd in (("", life["used_usd"]), ("_reserved", life["inference_usd"])):
        price = document["inference"][f"usd_per_mtok{view}"]
        paid = sum(n * price[kind]["value"] for kind, n in tokens.items()) * life["n_requests"]["value"] / 1e6
        assert paid == pytest.approx(usd["value"])
    assert {"traffic", "the serving forecast"} <= {swing["name"] for swing in life["tornado"]}


def test_a_saved_plan_with_other_options_over_it(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    save_plan(ASKED, path)
    assert asked_plan(str(path), {"years": None}) == ASKED
    assert asked_plan(str(path), {"years": 3.0, "save": path}) == replace(ASKED, years=3.0)
    table = tmp_path / "traffic.csv"
    table.write_text("day,requests_per_day\n0,5\n")
    over = asked_plan(str(path), {"traffic": table})
    assert over.requests_per_day is None
    assert over.traffic == (DemandPoint(0, 5),)
    with pytest.raises(RequestError, match="cannot be written"):
        save_plan(ASKED, tmp_path / "nowhere" / "plan.toml")
