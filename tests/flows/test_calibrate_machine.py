"""``ledger calibrate`` from the runs to the next plan."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from tests.machines import machine
from tests.metered_runs import FACTORS, N_CHIPS, add_run
from twobills.errors import LedgerError
from twobills.flows import machine as machine_flow
from twobills.flows.calibrate_machine import calibrate_machines, experience_of, forget_calibrations
from twobills.flows.listener import Listener
from twobills.flows.machine import find_machine, measure_machine
from twobills.flows.planned_job import measure_and_plan
from twobills.flows.provenance import provenance
from twobills.jobs.data.corpus import read_corpus
from twobills.ledger.store import Ledger
from twobills.ledger.timed_runs import Machine
from twobills.specs.experience import Experience, Part
from twobills.specs.job import TrainingJob
from twobills.usage import Job

HERE = Machine("a test's CPU", "cpu-core", N_CHIPS)


def test_runs_become_experience(ledger: Ledger) -> None:
    run_ids = [add_run(ledger) for _ in range(3)]
    (found,) = calibrate_machines(ledger)["machines"]
    assert found["machine"] == {"name": "a test's CPU", "chip": "cpu-core", "n_chips": 2}
    assert not found["too_few"]
    experience = experience_of(ledger, HERE)
    assert {part: experience.slower(part) for part in Part} == pytest.approx(dict(FACTORS))
    assert ledger.calibrations()[-1].body["run_ids"] == run_ids
    for job in found["jobs"].values():
        assert job["before"]["median_abs_rel_error"] > 0.05
        assert job["after"]["median_abs_rel_error"] == pytest.approx(0, abs=1e-9)
        assert [run["run_id"] for run in job["runs"]] == run_ids


def test_the_error_afterwards_is_of_runs_that_were_not_learned_from(ledger: Ledger) -> None:
    """1, 2 and 4 times as long: by the others, the middle run is forecast at the mean of their logarithms."""
    for factor in (1.0, 2.0, 4.0):
        add_run(ledger, dict.fromkeys(Part, factor), jobs=[Job.TRAINING])
    (found,) = calibrate_machines(ledger)["machines"]
    runs = found["jobs"]["training"]["runs"]
    expected = [8**0.5 / 1 - 1, 0.0, 2**0.5 / 4 - 1]
    assert [run["after_rel_error"] for run in runs] == pytest.approx(expected)
    assert found["jobs"]["training"]["after"]["median_abs_rel_error"] == pytest.approx(median(map(abs, expected)))
    assert [run["before_rel_error"] for run in runs] == pytest.approx([0.0, -0.5, -0.75])
    assert [run["covered_before"] for run in runs] == [True, False, False]
    assert found["jobs"]["training"]["before"]["coverage_90"] == pytest.approx(1 / 3)
    assert found["too_few"] == {"inference": 0}


def test_each_machine_learns_from_its_own_runs(ledger: Ledger) -> None:
    for _ in range(3):
        add_run(ledger)
    add_run(ledger, dict.fromkeys(Part, 9.0), name="another CPU")
    found = calibrate_machines(ledger)["machines"]
    assert [document["too_few"] for document in found] == [{}, {"training": 1, "inference": 1}]
    assert experience_of(ledger, HERE).slower(Part.STEP) == pytest.approx(FACTORS[Part.STEP])
    for other in (HERE._replace(name="another CPU"), HERE._replace(n_chips=4), HERE._replace(chip="h100-sxm")):
        assert experience_of(ledger, other) == Experience()


def test_only_the_newest_runs_count(ledger: Ledger) -> None:
    for factor in [*[9.0] * 15, *[1.5] * 20]:
        add_run(ledger, dict.fromkeys(Part, factor), jobs=[Job.TRAINING])
    calibrate_machines(ledger)
    learned = experience_of(ledger, HERE).training
    assert learned is not None
    assert learned.n_runs == 20
    assert learned.slower[Part.STEP] == pytest.approx(1.5)


def test_a_ledger_without_runs_says_so(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no finished run with a plan and a meter"):
        calibrate_machines(ledger)


def test_too_few_runs_are_counted(ledger: Ledger) -> None:
    add_run(ledger, name="another CPU", jobs=[Job.TRAINING])
    add_run(ledger, jobs=[Job.TRAINING])
    add_run(ledger)
    expected = r"2 x cpu-core \(a test's CPU\): 2 of training and 1 of inference finished .* and 3 of a job are needed"
    with pytest.raises(LedgerError, match=expected):
        calibrate_machines(ledger)
    assert not ledger.calibrations()


def test_forgetting_is_added_too(ledger: Ledger) -> None:
    for _ in range(3):
        add_run(ledger)
    calibrate_machines(ledger)
    assert forget_calibrations(ledger)["forgotten"] == [HERE._asdict()]
    assert experience_of(ledger, HERE) == Experience()
    assert len(ledger.calibrations()) == 2
    with pytest.raises(LedgerError, match="nothing to forget"):
        forget_calibrations(ledger)


def test_the_next_plan_uses_it(ledger: Ledger, job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the machine these tests run on, its speed stated so that both plans see the same."""
    monkeypatch.setattr(machine_flow, "measure_efficiency", lambda _: machine(flops=2e10).efficiency)
    found = find_machine()
    here = Machine(found.device.name, found.chip.name, found.device.n_chips)
    for _ in range(3):
        add_run(ledger, name=here.name)
    if here.n_chips != N_CHIPS or here.chip != "cpu-core":
        pytest.skip("the runs of these tests are of two CPU cores")
    corpus, listener = read_corpus(job.data), Listener()
    before = measure_and_plan(job, corpus, ledger, listener)
    calibrate_machines(ledger)
    after = measure_and_plan(job, corpus, ledger, listener)
    assert before.plan.learned is None
    assert after.plan.learned is not None
    assert after.plan.learned.n_runs == 3
    assert after.plan.step.seconds == pytest.approx(FACTORS[Part.STEP] * before.plan.step.seconds)
    assert after.plan.training.n_steps < before.plan.training.n_steps
    rows = {row["what"]: row for row in provenance(after, startup_s=1.5)}
    assert rows["forecast error, training"]["source"] == "calibrated on 3 runs of this machine"
    assert rows["forecast error, training"]["how"] == "estimated"
    rows = {row["what"]: row for row in provenance(before, startup_s=1.5)}
    assert rows["forecast error, serving"]["how"] == "assumed"


def test_without_a_ledger_nothing_was_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_flow, "measure_efficiency", lambda _: machine().efficiency)
    assert measure_machine(find_machine()).spec.experience == Experience()


def test_it_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from twobills.ledger.store import Ledger\n"
        "from twobills.flows.calibrate_machine import experience_of, Machine\n"
        f"print(experience_of(Ledger(Path({str(tmp_path / 'ledger.sqlite')!r})), Machine('x', 'y', 1)).training)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "None", done.stderr
