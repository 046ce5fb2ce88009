from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.metered_runs import FACTORS, add_run, inference_plan, training_plan
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.ledger.timed_runs import timed_runs
from twobills.plan.local import training_plan_to_json
from twobills.specs.experience import Experience, JobExperience, Part
from twobills.usage import Job, Origin

OTHER = dict.fromkeys(Part, 0.7)
CALIBRATED = Experience(
    training=JobExperience(n_runs=3, slower=OTHER, log_sigma=0.1, assumed_log_sigma=0.2),
    inference=JobExperience(n_runs=3, slower=OTHER, log_sigma=0.1, assumed_log_sigma=0.32),
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


@pytest.mark.parametrize("experience", [None, CALIBRATED])
def test_parts_are_held_against_the_bare_forecast(ledger: Ledger, experience: Experience | None) -> None:
    """Whatever an earlier calibration made of the plan, and however much of the planned work was done."""
    add_run(ledger, experience=experience)
    found = {run.job: run for run in timed_runs(ledger)}
    assert set(found) == set(Job)
    parts = {part: s for run in found.values() for part, s in run.parts.items()}
    assert {part: s.measured / s.forecast for part, s in parts.items()} == pytest.approx(dict(FACTORS))
    assert found[Job.TRAINING].assumed_log_sigma == pytest.approx(0.2)
    assert found[Job.INFERENCE].assumed_log_sigma == pytest.approx(0.32, abs=0.001)


def test_the_whole_job_is_the_sum_of_its_parts(ledger: Ledger) -> None:
    add_run(ledger, dict.fromkeys(Part, 1.0))
    served = next(run for run in timed_runs(ledger) if run.job is Job.INFERENCE)
    assert served.measured_s == pytest.approx(inference_plan().wall_s.value)
    assert served.forecast_s({}) == pytest.approx(served.planned_s) == pytest.approx(served.measured_s)
    assert served.forecast_s(dict.fromkeys(Part, 3.0)) == pytest.approx(3 * served.planned_s)
    trained = next(run for run in timed_runs(ledger) if run.job is Job.TRAINING)
    assert trained.planned_s == pytest.approx(training_plan().wall_s.value)


def test_only_finished_runs_with_a_plan_count(ledger: Ledger) -> None:
    add_run(ledger, outcome=Outcome.INTERRUPTED)
    add_run(ledger, outcome=Outcome.FAILED)
    ledger.end(ledger.start("serve", {}), Outcome.DONE)
    only = add_run(ledger, jobs=[Job.TRAINING])
    assert [(run.run_id, run.job) for run in timed_runs(ledger)] == [(only, Job.TRAINING)]


MACHINE = {"name": "x", "chip": "y", "n_chips": 1}


@pytest.mark.parametrize("spec", [{}, {"machine": {"name": "x"}}, {"machine": MACHINE}])
def test_a_plan_of_another_form_is_left_out(ledger: Ledger, spec: dict[str, Any]) -> None:
    for bill in (training_plan().bill, inference_plan().bill):
        run_id = ledger.start("benchmark", {})
        ledger.plan(run_id, bill, spec)
        ledger.reading(run_id, replace(bill.usage, origin=Origin.MEASURED), bill.rates)
        ledger.end(run_id, Outcome.DONE)
    assert timed_runs(ledger) == []


def test_a_run_that_kept_no_steps_is_left_out(ledger: Ledger) -> None:
    run_id, plan = ledger.start("train", {}), training_plan()
    ledger.plan(run_id, plan.bill, {"machine": MACHINE, "training": training_plan_to_json(plan)})
    ledger.reading(run_id, replace(plan.bill.usage, origin=Origin.MEASURED), plan.bill.rates)
    ledger.end(run_id, Outcome.DONE)
    assert timed_runs(ledger) == []
