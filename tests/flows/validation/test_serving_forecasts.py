"""Forecasts of serving rows: each manner and metric by the steps that it is made of, and never what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.flows.validation.test_serving_rows import forecastable
from tests.situations import CALIBRATION, decoding, instance, reading
from twobills.flows.validation.serving import forecast_serving
from twobills.flows.validation.serving_rows import Metric, ServingRow
from twobills.perf.serving_step import serving_rates, serving_step_s
from twobills.plan.steady import steady_state
from twobills.specs.load import Load

ONE_CHIP = {"n_chips": "1", "tp": "1", "precision_weights": "bf16"}
ALONE = {**ONE_CHIP, "note": "static batch", "concurrency": "1"}
QUEUED = {**ONE_CHIP, "concurrency": "max", "request_rate": "inf"}


def value(row: ServingRow) -> float:
    (scored,) = forecast_serving([row], CALIBRATION)
    return scored.forecast


def of(metric: Metric, **changes: str) -> float:
    """The forecast of that metric of a row."""
    return value(forecastable(**changes | {"metric": metric.value}))


def test_one_sequence_is_read_and_then_produces_token_after_token() -> None:
    row = forecastable(**ALONE)
    rates = serving_rates(row.cluster, row.engine, row.weights.compute, CALIBRATION)
    read_s = float(serving_step_s(reading(row.model, 1000), rates)[0])
    token_s = float(serving_step_s(decoding(row.model, 1, 1250), rates)[0])
    assert of(Metric.TTFT, **ALONE) == pytest.approx(read_s)
    assert of(Metric.TPOT, **ALONE) == pytest.approx(token_s)
    assert of(Metric.PREFILL, **ALONE) == pytest.approx(1000 / read_s)
    assert value(row) == pytest.approx(500 / (read_s + 499 * token_s))
    assert of(Metric.OUTPUT, **ALONE | {"note": "decode phase only"}) == pytest.approx(1 / token_s)


@pytest.mark.parametrize("manner", [ALONE, ONE_CHIP, QUEUED, ONE_CHIP | {"concurrency": "1000000"}])
def test_all_tokens_are_those_of_prompts_and_answers(manner: dict[str, str]) -> None:
    assert of(Metric.TOTAL, **manner) == pytest.approx(of(Metric.OUTPUT, **manner) * (1000 + 500) / 500)


def test_a_full_queue_is_the_steady_states() -> None:
    row = forecastable(**QUEUED)
    rates = serving_rates(row.cluster, row.engine, row.weights.compute, CALIBRATION)
    full = steady_state(
        row.model,
        instance(memory_bytes=row.cluster.memory_bytes),
        rates,
        Load(prompt_tokens=1000, answer_tokens=500),
    )
    assert value(row) == pytest.approx(float(full.answers_per_s[0]) * 500)


def test_clients_are_served_more_together_than_alone_but_never_past_the_queue() -> None:
    found = [of(Metric.OUTPUT, **ONE_CHIP | {"concurrency": n}) for n in ("1", "8", "64", "512")]
    assert found == sorted(found)
    assert found[-1] <= of(Metric.OUTPUT, **QUEUED) * 1.01
    waits = [of(Metric.TTFT, **ONE_CHIP | {"concurrency": n}) for n in ("1", "8", "64", "512", "100000")]
    assert waits == sorted(waits)


def test_a_pipelines_token_passes_all_its_stages_however_few_sequences_there_are() -> None:
    """Two sequences in four stages run beside each other: neither is faster than one alone."""
    stages = {**ALONE, "n_chips": "4", "tp": "1", "pp": "4"}
    one, two, four = (of(Metric.TPOT, **stages | {"concurrency": n}) for n in ("1", "2", "4"))
    assert one == pytest.approx(two)
    assert one == pytest.approx(four)


def test_a_rate_below_capacity_is_met_and_above_it_has_no_latency() -> None:
    slow = {**ONE_CHIP, "concurrency": "", "request_rate": "0.5"}
    assert of(Metric.OUTPUT, **slow) == pytest.approx(0.5 * 500)
    assert of(Metric.TOTAL, **slow) == pytest.approx(0.5 * 1500)
    assert 0 < of(Metric.TPOT, **slow) < of(Metric.TPOT, **slow | {"request_rate": "5"})
    flooded = [forecastable(**slow | {"request_rate": "1e6", "metric": m}) for m in ("ttft_s", "tpot_s")]
    assert forecast_serving(flooded, CALIBRATION) == []
    assert of(Metric.OUTPUT, **slow | {"request_rate": "1e6"}) == pytest.approx(of(Metric.OUTPUT, **QUEUED))


def several() -> Sequence[ServingRow]:
    models = ("Llama 3.1 8B", "Mixtral 8x7B")
    manners = (ALONE, ONE_CHIP, QUEUED, {**ONE_CHIP, "concurrency": "", "request_rate": "0.1"})
    metrics = ("output_tokens_per_s", "ttft_s")
    rows = [
        forecastable(**how | {"model": m, "metric": k, "precision_weights": "fp8"})
        for m in models
        for how in manners
        for k in metrics
    ]
    return [*rows, forecastable(engine="llama.cpp", precision_weights="q4_0", tp="", chip="RTX 4090")]


def test_rows_do_not_see_each_other_and_keep_their_order() -> None:
    rows = several()
    together = forecast_serving(rows, CALIBRATION)
    assert [each.forecast for each in together] == pytest.approx([value(row) for row in rows])
    assert [each.name for each in together] == [row.name for row in rows]


def test_no_forecast_looks_at_what_was_measured() -> None:
    rows = several()
    changed = [replace(row, measured=2 * row.measured) for row in rows]
    for ours, theirs in zip(*(forecast_serving(each, CALIBRATION) for each in (rows, changed)), strict=True):
        assert (ours.forecast, ours.p5, ours.p95) == (theirs.forecast, theirs.p5, theirs.p95)
        assert theirs.measured == 2 * ours.measured


def test_every_forecast_has_its_interval_and_says_what_it_is_of() -> None:
    for scored in forecast_serving(several(), CALIBRATION):
        assert 0 < scored.p5 < scored.forecast < scored.p95 < np.inf
        assert {"unit", "manner", "engine", "weights", "plan", "concurrency"} <= set(scored.detail)
