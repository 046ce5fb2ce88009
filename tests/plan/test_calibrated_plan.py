"""Plans on a machine whose own runs taught something: exactly so many times as long, and as sure as the runs allow."""

from __future__ import annotations

import math

import pytest

from tests.metered_runs import FACTORS, inference_plan, training_plan
from twobills.plan.inference import inference_plan_to_json
from twobills.plan.local import training_plan_to_json
from twobills.specs.experience import Experience, JobExperience, Part
from twobills.usage import Phase


def learned(*parts: Part, log_sigma: float = 0.05) -> JobExperience:
    return JobExperience(
        n_runs=5, slower={part: FACTORS[part] for part in parts}, log_sigma=log_sigma, assumed_log_sigma=0.2
    )


EXPERIENCE = Experience(
    training=learned(Part.PREPARE, Part.STEP, Part.EVALUATE), inference=learned(Part.PREFILL, Part.DECODE, Part.IDLE)
)


def test_each_part_of_training_takes_so_many_times_as_long() -> None:
    bare, calibrated = training_plan(), training_plan(EXPERIENCE)
    assert calibrated.step.seconds == pytest.approx(1.25 * bare.step.seconds)
    assert sum(timed.seconds for timed in calibrated.step.operations) == pytest.approx(calibrated.step.seconds)
    assert calibrated.mfu == pytest.approx(bare.mfu / 1.25)
    evaluate = [plan.bill.line(Phase.EVALUATE).usage.chip_s for plan in (bare, calibrated)]
    assert evaluate[1] == pytest.approx(2.0 * evaluate[0])
    prepare = [p.bill.line(Phase.PRETRAIN).usage.chip_s / 2 - 100 * p.step.seconds for p in (bare, calibrated)]
    assert prepare[1] == pytest.approx(1.6 * prepare[0])


def test_each_phase_of_serving_takes_so_many_times_as_long() -> None:
    """Also where prompts and answers share a step."""
    bare, calibrated = inference_plan().bill, inference_plan(EXPERIENCE).bill
    for phase, factor in ((Phase.PREFILL, 1.1), (Phase.DECODE, 0.5), (Phase.IDLE, 1.3)):
        assert calibrated.line(phase).usage.chip_s == pytest.approx(factor * bare.line(phase).usage.chip_s)
        assert calibrated.line(phase).usage.flops == pytest.approx(bare.line(phase).usage.flops)
        assert calibrated.line(phase).usage.tokens == bare.line(phase).usage.tokens


def test_the_interval_is_the_runs_own() -> None:
    for plan in (training_plan(EXPERIENCE), inference_plan(EXPERIENCE)):
        assert plan.total_usd.p95 / plan.total_usd.value == pytest.approx(math.exp(1.645 * 0.05), rel=1e-3)


def test_a_plan_says_on_how_many_runs_it_is_calibrated() -> None:
    assert training_plan_to_json(training_plan(EXPERIENCE))["calibration"]["n_runs"] == 5
    assert inference_plan_to_json(inference_plan(EXPERIENCE))["calibration"]["n_runs"] == 5
    assert training_plan_to_json(training_plan())["calibration"] is None
    assert inference_plan_to_json(inference_plan())["calibration"] is None
