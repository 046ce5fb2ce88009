"""A search from the user's words to the document, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from twobills.cli.app import app
from twobills.errors import RequestError, SpecError, TargetError
from twobills.flows.search_training import SearchRequest, check_deadline, search, sharable_batch
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


@given(st.integers(1, 5000), st.lists(st.integers(1, 20000), min_size=1, max_size=3))
def test_a_batch_is_near_what_is_wanted(wanted: int, counts: list[int]) -> None:
    assert abs(sharable_batch(wanted, counts) - wanted) <= 0.05 * wanted


def test_a_batch_is_what_the_chips_can_deal_out() -> None:
    assert sharable_batch(16e6 / 8192, [16384]) == 2048
    assert sharable_batch(1024, [2000]) == 1000
    assert search(asked(batch_size=96))["global_batch"] == 96, "sequences are kept exactly"


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
        ({"usd_per_chip_hour": "much"}, "--usd-per-chip-hour 'much': write dollars"),
        ({"usd_per_chip_hour": "b200=2"}, "b200 is not among --chips"),
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
