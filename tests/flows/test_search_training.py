"""A search from the user's words to the document, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from twobills.cli.app import app
from twobills.errors import RequestError, SpecError, TargetError
from twobills.flows.plan_training import TrainingRequest, planned_run
from twobills.flows.search_training import SearchRequest, check_deadline, search
from twobills.flows.training_bill import plan_training_document
from twobills.meter.clock import ManualClock
from twobills.plan.search import Objective
from twobills.plan.space import Fixed
from twobills.report.documents import to_json_text

TWO = "h100-sxm:64,a100-sxm-80gb:64"


def asked(**changed: object) -> SearchRequest:
    return SearchRequest(**{"model": "llama-3.1-8b", "chips": TWO, "tokens": "1T", "top": 4, **changed})  # type: ignore[arg-type]


def test_the_document_has_base_units_and_intervals() -> None:
    found = json.loads(to_json_text(search(asked(), ManualClock())))
    assert found["search_s"] == 0, "timed by the clock that is given"
    assert found["batch_size_tokens"] == found["global_batch"] * found["seq_len"]
    for row in (*found["best"], *found["ranking"], *found["front"]):
        for name in ("step_s", "wall_s", "total_usd", "usd_per_ttoken"):
            assert row[name]["p5"] < row[name]["value"] < row[name]["p95"]
        plan = row["plan"]
        assert plan["dp"] * plan["tp"] * plan["pp"] * plan["cp"] == row["n_chips"]
        assert plan["dp"] * plan["micro_batch"] * plan["n_micro"] == found["global_batch"]
    assert len(found["ranking"]) == 4
    assert found["n_front"] == len(found["front"])


def test_fp8_is_used_only_where_the_chip_has_it() -> None:
    best = {row["chip"]: row["dtype"] for row in search(asked())["best"]}
    assert best == {"h100-sxm": "fp8", "a100-sxm-80gb": "bf16"}
    only = search(asked(dtype="fp8"))
    assert [row["chip"] for row in only["best"]] == ["h100-sxm"]
    assert only["refused"][0]["reason"] == "chip a100-sxm-80gb: has no fp8; use --dtype any or bf16"
    with pytest.raises(RequestError, match="has no fp8"):
        search(asked(dtype="fp8", chips="a100-sxm-80gb:64"))


def test_a_users_price_is_for_all_or_by_name() -> None:
    def usd_per_chip_hour(**changed: object) -> dict[str, float]:
        rows = search(asked(**changed))["best"]
        return {r["chip"]: r["total_usd"]["value"] / (r["wall_s"]["value"] / 3600 * r["n_chips"]) for r in rows}

    assert usd_per_chip_hour(usd_per_chip_hour="3") == pytest.approx({"h100-sxm": 3.0, "a100-sxm-80gb": 3.0})
    named = usd_per_chip_hour(usd_per_chip_hour="h100=7,a100-sxm-80gb=0.5")
    assert named == pytest.approx({"h100-sxm": 7.0, "a100-sxm-80gb": 0.5})


def test_chips_without_a_price_are_left_out_with_the_reason(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[chip.mychip]\nvendor = "me"\nrole = "training"\nbf16_tflops = 500\nmemory_gib = 100\nmemory_gb_per_s = 4000\n'
        'scaleup_chips = 8\nscaleup_gb_per_s = 400\nscaleout_gbit_per_s = 400\nsource = "a test"\n'
        'as_of = "2026-01-01"\nverified = true\n'
    )
    found = search(asked(chips="mychip:64,h100-sxm:64", catalog_file=own))
    assert "--usd-per-chip-hour mychip=USD" in found["refused"][0]["reason"]
    priced = search(asked(chips="mychip:64", catalog_file=own, usd_per_chip_hour="1"))
    assert priced["best"][0]["chip"] == "mychip"
    assert f"--catalog {own}" in priced["command"]


def test_the_batch_is_what_all_of_the_chips_can_share() -> None:
    found = search(asked(chips="h100-sxm:60,a100-sxm-80gb:64", batch_tokens="4M"))
    assert abs(found["batch_size_tokens"] - 4e6) <= 0.05 * 4e6
    assert found["global_batch"] % 60 == 0, "480 of 465 to 512 has the largest common divisors with 60 and 64"
    assert search(asked(batch_size=96))["global_batch"] == 96, "sequences are kept exactly"


@pytest.mark.parametrize("batch_tokens", [None, "3M"])
def test_a_search_and_a_plan_take_the_same_batch_and_sequences(batch_tokens: str | None) -> None:
    chips = "h800-sxm:500"
    found = search(asked(model="deepseek-v3", chips=chips, usd_per_chip_hour="2", batch_tokens=batch_tokens))
    request = TrainingRequest(
        model="deepseek-v3", tokens="1T", chips=chips, usd_per_chip_hour=2.0, batch_tokens=batch_tokens
    )
    run = planned_run(request).plan.run
    assert (found["global_batch"], found["seq_len"]) == (run.global_batch, run.seq_len)
    assert found["seq_len"] == 4096


def test_owned_chips_cost_what_owning_costs_and_their_power() -> None:
    cheap, dear = (search(asked(chips="h100-sxm:64", owned=True, pue=pue)) for pue in (1.1, 2.0))
    assert dear["best"][0]["total_usd"]["value"] > cheap["best"][0]["total_usd"]["value"]
    assert cheap["best"][0]["price_assumed"] == "owned, straight line"
    assert cheap["command"].endswith(" --owned")
    rented = search(asked(chips="h100-sxm:64"))
    assert rented["best"][0]["price_assumed"] is None
    assert rented["best"][0]["total_usd"]["value"] != cheap["best"][0]["total_usd"]["value"]


def test_chips_that_fail_more_often_take_longer() -> None:
    usual, frail = (search(asked(chips="h100-sxm:64", mtbf_hours=hours)) for hours in (None, 500.0))
    assert frail["best"][0]["wall_s"]["value"] > usual["best"][0]["wall_s"]["value"]
    assert "--mtbf-hours 500" in frail["command"]
    assert any(line.startswith("a failure of one chip every") for line in usual["assumed"])
    assert not any(line.startswith("a failure of one chip every") for line in frail["assumed"])


def test_a_speed_that_was_not_fitted_is_said_as_in_a_plan() -> None:
    found = search(asked(chips="mi300x:64,h100-sxm:64"))
    by_chip = {row["chip"]: row for row in found["best"]}
    request = TrainingRequest(model="llama-3.1-8b", tokens="1T", chips="mi300x:64")
    words = by_chip["mi300x"]["speed_assumed"]
    assert "mean of the families that were fitted" in words
    assert words in found["assumed"]
    assert words in plan_training_document(request)["assumed"]
    assert "priced as owned" in by_chip["mi300x"]["price_assumed"]
    assert by_chip["h100-sxm"]["speed_assumed"] is None


def test_what_is_fixed_is_in_every_plan() -> None:
    for row in search(asked(fixed=Fixed(tp=2, pp=2)))["ranking"]:
        assert (row["plan"]["tp"], row["plan"]["pp"]) == (2, 2)


def test_a_deadline_that_cannot_be_met_says_by_how_much() -> None:
    days = search(asked())["best"][0]["wall_s"]["value"] / 86400
    check_deadline(search(asked(max_days=days * 1.01)))
    with pytest.raises(TargetError, match=r"the fastest plan, on 64 x h100-sxm, takes .* \(100(\.0)? %\) too long"):
        check_deadline(search(asked(max_days=days / 2)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"chips": "h100-sxm:many"}, "write it as NAME:COUNT"),
        ({"chips": "h100-sxm:8,"}, "write it as NAME:COUNT"),
        ({"chips": "h900:8"}, "chip 'h900': not in the catalogue"),
        ({"chips": "cpu-core:8"}, "memory_bytes is not known"),
        ({"tokens": "0"}, "--tokens 0: must be above 0"),
        ({"model": "nonsense"}, "model 'nonsense': not in the catalogue"),
        ({"model": None}, "MODEL or --params: give a model or a size"),
        ({"dtype": "int8"}, "--dtype 'int8': must be one of any, bf16, fp8"),
        ({"batch_size": 8, "batch_tokens": "1M"}, "--batch-tokens and --batch-size: give one of the two"),
        ({"tokens": "1e24"}, r"--tokens 1e24: must be at most 1e\+18"),
        ({"chips": "h100-sxm:8.5"}, "in whole chips"),
        ({"chips": "h100-sxm:1e10"}, "at most 100,000,000 chips"),
        ({"usd_per_chip_hour": "1e7"}, "must be a number of dollars from 0 to 1,000,000"),
        ({"usd_per_chip_hour": "nan"}, "must be a number of dollars"),
        ({"owned": True, "usd_per_chip_hour": "2"}, "--owned and --usd-per-chip-hour: give one of the two"),
        ({"owned": True, "chips": "gb200:72"}, "chip gb200: what it costs to buy .* is not known"),
        ({"mtbf_hours": 0.0}, "--mtbf-hours 0: must be above 0"),
        ({"pue": 0.5}, "--pue 0.5: must be between 1 and 10"),
        ({"catalog_file": Path("nope.toml")}, r"^nope\.toml: cannot be read \([^;]*\)$"),
        ({"usd_per_chip_hour": "much"}, "--usd-per-chip-hour 'much': write dollars"),
        ({"usd_per_chip_hour": "b200=2"}, "b200 is none of the chips asked for"),
        ({"fixed": Fixed(tp=3)}, "tp=3: does not divide n_heads=32"),
        ({"fixed": Fixed(tp=16)}, "tp=16: wider than the fast links"),
        ({"chips": "h100-sxm:1"}, "none of .* plans fits, the nearest lacks"),
        ({"seq_len": 200_000}, "has positions for 131072"),
    ],
)
def test_a_wrong_request_is_one_line(changed: dict[str, object], message: str) -> None:
    with pytest.raises((RequestError, SpecError), match=message) as error:
        search(asked(**changed))
    assert "\n" not in str(error.value)


def test_the_command_for_the_winner_plans_the_same_run() -> None:
    found = search(asked(chips="h100-sxm:64", objective=Objective.DOLLARS, dtype="bf16"))
    words = found["command"].split()
    assert words[:4] == ["twobills", "plan", "training", "llama-3.1-8b"]
    result = CliRunner().invoke(app, [*words[1:], "--json"])
    assert result.exit_code == 0, result.output
    planned = json.loads(result.output)["training"]
    assert planned["wall_s"]["value"] == pytest.approx(found["ranking"][0]["wall_s"]["value"], rel=1e-6)
    assert planned["total_usd"]["value"] == pytest.approx(found["ranking"][0]["total_usd"]["value"], rel=1e-6)
