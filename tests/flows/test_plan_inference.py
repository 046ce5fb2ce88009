from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from twobills.errors import CatalogError, RequestError, SpecError, TwobillsError
from twobills.flows.plan_inference import InferenceRequest, plan_inference_document
from twobills.plan.serving_degrees import Degrees

ASKED = InferenceRequest(
    model="llama-3.1-8b", chips="h200:8", prompt_tokens=1000, answer_tokens=300, requests_per_s=20.0
)
EVERY = {
    "a rate": ASKED,
    "clients": replace(ASKED, requests_per_s=None, concurrency=64.0),
    "a queue": replace(ASKED, requests_per_s=None),
    "cached": replace(ASKED, cached_frac=0.5),
    "owned": replace(ASKED, owned=True),
    "two pools": replace(ASKED, disaggregated=True),
    "guesses": replace(ASKED, n_guesses=3, acceptance=0.7, draft="llama-3.2-1b"),
    "experts": replace(ASKED, model="deepseek-v3", weights="fp8", requests_per_s=1.0),
    "SRAM alone": replace(
        ASKED, model="llama-3.1-70b", chips="groq:576", weights="int8", owned=True, requests_per_s=2.0
    ),
    "wafers": replace(ASKED, model="llama-3.1-70b", chips="cerebras-wse-3:4", usd_per_chip_hour=100.0),
}


@pytest.fixture(params=EVERY, scope="module")
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    return plan_inference_document(EVERY[request.param], with_parts=True)


def test_the_document_is_json_and_its_figures_have_intervals(document: dict[str, Any]) -> None:
    json.dumps(document, allow_nan=False)
    served = document["inference"]
    for kind in ("input", "cached_input", "output"):
        for view in ("usd_per_mtok", "usd_per_mtok_reserved"):
            figure = served[view][kind]
            assert 0 <= figure["p5"] <= figure["value"] <= figure["p95"]
    for name in ("ttft_s", "ttft_p99_s", "tpot_s", "e2e_s", "output_tokens_per_s", "usd_per_request", "usd_per_day"):
        assert 0 < served[name]["p5"] <= served[name]["value"] <= served[name]["p95"]
    chips = sum(pool["n_instances"] * pool["chips_per_instance"] for pool in served["pools"])
    assert chips == served["n_chips"] <= document["chip"]["n_chips"]
    assert served["bill"]["total_usd"] == pytest.approx(served["usd_per_day"]["value"])
    assert sum(served["bound_by"].values()) == pytest.approx(1)
    assert sum(part["share_frac"] for part in document["step_parts"]) == pytest.approx(1)


def test_requests_are_answered_as_often_as_they_come(document: dict[str, Any]) -> None:
    served = document["inference"]
    if served["requests_per_s"] is not None:
        per_s = served["output_tokens_per_s"]["value"] / served["answer_tokens"]
        assert per_s == pytest.approx(served["requests_per_s"], rel=1e-3)
        assert served["capacity_requests_per_s"] > served["requests_per_s"]


def test_weights_and_cache_are_in_the_chips_memory(document: dict[str, Any]) -> None:
    memory = document["inference"]["memory"]
    assert memory["weights_bytes"] > 0
    assert memory["cache_room_bytes"] > 0


def test_what_was_not_said_is_assumed_in_words() -> None:
    words = "; ".join(plan_inference_document(EVERY["wafers"])["assumed"])
    assert "16-bit peak of cerebras-wse-3: not published" in words
    assert "hold weights and cache" in words
    assert "taken as fast as its network" in words
    queue = "; ".join(plan_inference_document(EVERY["a queue"])["assumed"])
    assert "queued at once" in queue


def test_levers_are_what_else_it_would_cost() -> None:
    served = plan_inference_document(ASKED)["inference"]
    fp8 = next(lever for lever in served["levers"] if lever["change"] == "fp8 weights")
    other = plan_inference_document(replace(ASKED, weights="fp8"))["inference"]
    assert fp8["usd_per_request"] == pytest.approx(other["usd_per_request_reserved"]["value"])
    given = plan_inference_document(replace(ASKED, usd_per_chip_hour=1.0))["inference"]["levers"]
    assert not any("price" in lever["change"] for lever in given)


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        (replace(ASKED, chips="h200:8,b200:8"), RequestError, "search inference"),
        (replace(ASKED, chips="h200:none"), RequestError, "NAME:COUNT"),
        (replace(ASKED, network_gbps=float("nan")), RequestError, "--network-gbps nan"),
        (replace(ASKED, prefill=Degrees(tp=2)), RequestError, "add --disaggregated"),
        (replace(ASKED, model="no-such-model"), RequestError, "no-such-model"),
        (replace(ASKED, requests_per_s=0.0), SpecError, "without traffic there is no bill"),
        (replace(ASKED, concurrency=3.0), SpecError, "give one"),
        (replace(ASKED, prompt_tokens=-5), SpecError, "prompt_tokens=-5"),
        (replace(ASKED, requests_per_s=1e6), SpecError, "saturates 8 x h200-sxm"),
        (replace(ASKED, model="llama-3.1-405b", chips="h200:2"), SpecError, "does not fit"),
        (replace(ASKED, fixed=Degrees(tp=16)), SpecError, "the links of h200-sxm join 8"),
        (replace(ASKED, chips="a100:8", weights="fp8"), SpecError, "has no fp8 products"),
        (replace(ASKED, chips="rubin-cpx:8"), CatalogError, "usd-per-chip-hour"),
        (replace(ASKED, acceptance=0.5), RequestError, "--guesses 3"),
        (replace(ASKED, n_guesses=3), RequestError, "--acceptance 0.7"),
        (replace(ASKED, n_guesses=3, acceptance=0.5, disaggregated=True), RequestError, "leave out --disaggregated"),
        (replace(ASKED, cached_frac=1.0), SpecError, "cached_frac=1"),
    ],
)
def test_what_cannot_be_is_one_line(asked: InferenceRequest, kind: type[TwobillsError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        plan_inference_document(asked)
    assert "\n" not in str(caught.value)
