"""Sentences: which bill, what dominates, what would change it; sane at the extremes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.run_document import make_document
from twobills.plan.life import life
from twobills.report import sentences
from twobills.report.words import short, show_days, show_days_briefly, signed_usd


def gaps(planned: float, work: float, speed: float, price: float) -> dict[str, float]:
    total = {"planned_usd": planned, "measured_usd": planned + work + speed + price}
    return {**total, "work_usd": work, "speed_usd": speed, "price_usd": price}


def test_a_bill_names_its_job_its_largest_phase_and_what_halving_it_saves() -> None:
    bill = make_document()["bills"]["training"]["measured"]
    words = sentences.bill_sentence(bill)
    assert "training bill, paid once" in words
    assert "95.4 % of it for learning from the data (pretrain)" in words
    assert "learning from half as much data" in words


def test_a_plan_is_not_told_as_if_it_had_happened() -> None:
    bill = make_document()["bills"]["inference"]["predicted"]
    assert "should come to" in sentences.bill_sentence(bill)


def test_a_bill_of_nothing_has_no_largest_phase() -> None:
    bill = {"job": "training", "origin": "measured", "total_usd": 0.0, "phases": {}}
    assert sentences.bill_sentence(bill).endswith("it came to nothing.")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            gaps(1.0, 0.0, 0.5, 0.0),
            "$0.500 (50.0 %) above its plan of $1.00. The largest cause is the speed gap",
        ),
        (gaps(1.0, 0.0, -0.5, 0.1), "below its plan of $1.00. The largest cause is the speed gap of -$0.500"),
        (gaps(1.0, -0.3, 0.0, 0.0), "less work was done than planned"),
        (gaps(1.0, 0.0, 0.0, 1.0), "each second cost more than planned"),
        (gaps(1.0, 0.0, 0.0, 0.0), "came out as planned, $1.00."),
        (gaps(1.0, 0.5, -0.5, 0.0), "came out as planned, $1.00. The largest cause is the work gap"),
        (gaps(0.0, 0.2, 0.0, 0.0), "$0.200 above its plan of $0.00. The largest cause is the work gap"),
        (gaps(0.0, 0.0, 0.0, 0.0), "came out as planned, $0.00."),
    ],
)
def test_a_gap_is_told_by_side_and_cause(document: dict[str, float], expected: str) -> None:
    assert expected in sentences.gap_sentence("training", document)


def test_whether_the_interval_held_is_told() -> None:
    interval = {"value": 1.0, "p5": 0.8, "p95": 1.2}
    assert ", inside the" in sentences.gap_sentence("training", gaps(1.0, 0.0, 0.1, 0.0), interval)
    assert ", outside the" in sentences.gap_sentence("training", gaps(1.0, 0.0, 0.5, 0.0), interval)


@given(*[st.floats(-1e9, 1e9) for _ in range(3)], st.floats(0, 1e9))
def test_any_gap_is_a_sentence(work: float, speed: float, price: float, planned: float) -> None:
    words = sentences.gap_sentence("inference", gaps(planned, work, speed, price))
    assert words.endswith(".")
    assert "nan" not in words


def test_the_life_names_the_first_and_last_crossing() -> None:
    words = sentences.life_sentence([point.to_json() for point in life(1.0, 1e-3, 2.0)])
    assert "at 1k requests a day the second bill overtakes the first after 24.0 h" in words
    assert "at 1B after 86.4 ms" in words


def test_a_life_without_a_crossing() -> None:
    free_answers = [point.to_json() for point in life(1.0, 0.0, 2.0)]
    assert "never overtakes" in sentences.life_sentence(free_answers)
    assert "never overtakes" in sentences.life_sentence([])
    free_training = [point.to_json() for point in life(0.0, 1.0, 2.0)]
    assert "from the first answer" in sentences.life_sentence(free_training)


def test_quality_beside_gzip_and_alone() -> None:
    def words(ours: float | None, gzip: float | None) -> str:
        return sentences.quality_sentence({"heldout_bits_per_byte": ours, "gzip_bits_per_byte": gzip})

    assert "25.0 % fewer than gzip's 2.00" in words(1.5, 2.0)
    assert "50.0 % more than gzip's 2.00" in words(3.0, 2.0)
    assert words(1.5, None).endswith("1.50 bits for each byte.")
    assert words(None, 2.0) == "Quality on held-out text was not measured."


def test_failures_and_unknown_prices_are_told() -> None:
    requests = {**make_document()["requests"], "ok": 0, "failed": 300, "ttft_s": None}
    words = sentences.requests_sentence(requests, None)
    assert words == "0 of 300 requests were answered and 300 failed. What one costs is not known."


def test_guessed_inputs_are_named() -> None:
    words = sentences.provenance_sentence(make_document()["provenance"])
    assert words.startswith("3 of 6 inputs")
    assert "price of a core-hour, power of a core, forecast error" in words
    assert "measured, counted or looked up" in sentences.provenance_sentence([])


def test_changed_weights_are_shouted() -> None:
    document = make_document()
    assert "did not change" in sentences.model_sentence(document)
    document["model"]["digest_after_serving"] = "sha256:0"
    assert "CHANGED" in sentences.model_sentence(document)


def test_a_loss_that_came_apart() -> None:
    def curve(first: float, last: float | None) -> list[dict[str, Any]]:
        return [{"n_tokens": 1, "loss": first}, {"n_tokens": 2, "loss": last}]

    assert "fell from 8.00 to 2.00" in sentences.loss_sentence(curve(8.0, 2.0))
    assert "did not fall" in sentences.loss_sentence(curve(8.0, 9.0))
    assert "came apart" in sentences.loss_sentence(curve(8.0, float("nan")))
    assert "came apart" in sentences.loss_sentence(curve(8.0, None))
    assert "too few steps" in sentences.loss_sentence([])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("$0.00400", "$0.004"),
        ("1.00k", "1k"),
        ("1.50M", "1.5M"),
        ("$0.00", "$0"),
        ("100", "100"),
        ("$20.50", "$20.5"),
    ],
)
def test_zeros_behind_the_point_go(text: str, shown: str) -> None:
    assert short(text) == shown


def test_amounts_in_words() -> None:
    assert signed_usd(0.5) == "+$0.500"
    assert signed_usd(-0.5) == "-$0.500"
    assert signed_usd(1e-19, beside=1.0) == "$0.00"
    assert show_days(3.0) == "3.00 days"
    assert show_days(7305.0) == "20.0 years"
    assert show_days_briefly(0.034) == "48 min"
