"""A run that is stopped or killed and gone on with is the run that never stopped, and its bill misses nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.flows.train_and_die import train
from twobills.errors import BudgetError, CheckpointError, RequestError, TwobillsError
from twobills.flows import training_job
from twobills.flows.listener import Listener, TrainingProgress
from twobills.flows.run_folder import RunFolder
from twobills.flows.train import Begin
from twobills.flows.watching import read_rows
from twobills.jobs.training.checkpoint import Checkpoints
from twobills.jobs.training.guard import DivergedError, SpikeGuard
from twobills.jobs.training.step import TrainingStep
from twobills.ledger.journal import lose
from twobills.ledger.record import Outcome, RecordKind
from twobills.ledger.store import Ledger
from twobills.specs.data import DataSpec
from twobills.specs.job import TrainingJob
from twobills.specs.limits import Limits
from twobills.usage import Job, Phase, Usage

N_STEPS = 24
JOB = """
out = "model"
data = "{data}"
steps = {steps}
vocab_size = 512
batch_size = 2
seq_len = 64
checkpoint_every_s = 0.05
evaluate_every = 10
[model]
n_layers = 2
d_model = 32
n_heads = 2
n_kv_heads = 1
d_ff = 64
"""


class Remembers(Listener):
    """Keeps the stages, and stops when it is told to."""

    def __init__(self, stop_after: int = 0) -> None:
        self.stages: list[str] = []
        self.steps: list[int] = []
        self._stop_after = stop_after

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def training(self, progress: TrainingProgress) -> None:
        self.steps.append(progress.step)
        if progress.step == self._stop_after:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def steps_job(job: TrainingJob) -> TrainingJob:
    return replace(job, steps=N_STEPS, checkpoint_every_s=0.0, evaluate_every=10)


@pytest.fixture(scope="module")
def never_stopped(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the weights of the run that nobody stopped."""
    root = tmp_path_factory.mktemp("whole")
    shape = {"n_layers": 2, "d_model": 32, "n_heads": 2, "n_kv_heads": 1, "d_ff": 64}
    whole = TrainingJob(
        out=root / "model",
        data=DataSpec.of(corpus_folder),
        steps=N_STEPS,
        vocab_size=512,
        batch_size=2,
        seq_len=64,
        model=shape,
        checkpoint_every_s=1e9,
    )
    return str(train(whole, Ledger(root / "ledger.sqlite"))["model"]["digest"])


def phases(ledger: Ledger, run_id: str) -> dict[Phase, Any]:
    return dict(ledger.measured_bills(run_id)[Job.TRAINING].usage.phases)


@pytest.mark.parametrize(
    ("where", "n"),
    [
        ("twobills.jobs.training.step:TrainingStep.__call__", 13),
        ("twobills.jobs.training.checkpoint:_write_tensors", 2),
        ("twobills.jobs.training.freeze:_write_json", 2),
    ],
    ids=["in a step", "in a checkpoint", "freezing"],
)
def test_killed_at_any_moment_it_ends_with_the_same_bits(
    corpus_folder: Path, tmp_path: Path, never_stopped: str, where: str, n: int
) -> None:
    (tmp_path / "job.toml").write_text(JOB.format(data=corpus_folder, steps=N_STEPS))
    path = tmp_path / "ledger.sqlite"
    script = [sys.executable, str(Path(__file__).with_name("train_and_die.py")), str(tmp_path / "job.toml"), str(path)]
    lived_s = 0.0
    for arguments, status in (([where, str(n)], -signal.SIGKILL), ([], 0)):
        start_s = time.monotonic()
        done = subprocess.run([*script, *arguments], capture_output=True, text=True, check=False, env=_environment())
        lived_s += time.monotonic() - start_s
        assert done.returncode == status, done.stderr
    ledger = Ledger(path)
    (run_id,) = ledger.run_ids()
    document = json.loads((tmp_path / "model.run" / "result.json").read_text())
    assert document["model"]["digest"] == never_stopped
    assert ledger.outcome(run_id) is Outcome.DONE
    used = phases(ledger, run_id)
    assert used[Phase.PRETRAIN].tokens == N_STEPS * 2 * 64, "work that was kept, and no other"
    assert used[Phase.LOST].chip_s > 0
    assert used[Phase.LOST].tokens == 0
    n_chips = document["machine"]["n_chips"]
    total_s = sum(phase.chip_s for phase in used.values()) / n_chips
    assert lived_s - 3.0 < total_s < lived_s, "but for two ends of the interpreter"
    assert [row["step"] for row in read_rows(tmp_path / "model.run" / "metrics.jsonl")] == [*range(1, N_STEPS + 1)]
    assert not list((tmp_path / "model.run" / "processes").iterdir())
    assert not list(tmp_path.glob(".model*"))


def _environment() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_ctrl_c_waits_for_the_step_and_leaves_a_checkpoint(
    steps_job: TrainingJob, ledger: Ledger, never_stopped: str
) -> None:
    patient = replace(steps_job, checkpoint_every_s=1e9)
    heard = Remembers(stop_after=7)
    with pytest.raises(KeyboardInterrupt):
        train(patient, ledger, listener=heard)
    (run_id,) = ledger.run_ids()
    assert ledger.outcome(run_id) is Outcome.INTERRUPTED
    assert Checkpoints(RunFolder(patient.out).checkpoints).steps() == [7]
    assert heard.stages[-1] == f"Asked to stop: stopped after step 7 of {N_STEPS} with a checkpoint; --resume goes on"
    again = Remembers()
    document = train(patient, ledger, listener=again)
    assert again.steps[0] == 8
    assert document["model"]["digest"] == never_stopped
    assert document["run_id"] == run_id
    assert ledger.run_ids() == [run_id]
    assert ledger.outcome(run_id) is Outcome.DONE


def test_a_budget_of_flops_stops_before_it_is_overspent(
    steps_job: TrainingJob, ledger: Ledger, never_stopped: str
) -> None:
    whole = train(replace(steps_job, out=steps_job.out.with_name("whole")), ledger)
    step_flops = whole["plan"]["training"]["bill"]["phases"]["pretrain"]["flops"] / N_STEPS
    limited = replace(steps_job, limits=Limits(max_flops=10.5 * step_flops), evaluate_every=0)
    with pytest.raises(
        BudgetError, match=r"^max_flops=.* spent, .* stopped after step 10 of 24 with a checkpoint"
    ) as e:
        train(limited, ledger)
    assert e.value.exit_status == 3
    run_id = ledger.run_ids()[0]
    assert ledger.outcome(run_id) is Outcome.STOPPED
    assert phases(ledger, run_id)[Phase.PRETRAIN].flops == pytest.approx(10 * step_flops)
    with pytest.raises(BudgetError, match="stopped after step 10 of 24"):
        train(limited, ledger)
    assert train(replace(limited, limits=Limits()), ledger)["model"]["digest"] == never_stopped


def test_dollars_and_seconds_count_what_all_processes_spent(steps_job: TrainingJob, ledger: Ledger) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(steps_job, ledger, listener=Remembers(stop_after=7))
    (run_id,) = ledger.run_ids()
    spent = ledger.measured_bills(run_id)[Job.TRAINING]
    for limits, name in (
        (Limits(max_usd=spent.total_usd), "max_usd"),
        (Limits(max_seconds=spent.usage.total.chip_s), "max_seconds"),
    ):
        with pytest.raises(BudgetError, match=rf"^{name}=.*stopped after step 7 of 24"):
            train(replace(steps_job, limits=limits), ledger)


def test_a_run_that_is_not_finished_is_not_overwritten(steps_job: TrainingJob, ledger: Ledger) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(steps_job, ledger, listener=Remembers(stop_after=5))
    with pytest.raises(RequestError, match="not finished, with a checkpoint of step 5; --resume goes on with it"):
        train(steps_job, ledger, Begin.NEW)
    heard = Remembers()
    assert train(steps_job, ledger, Begin.RESTART, heard)["run_id"] == ledger.run_ids()[0]
    assert heard.steps[0] == 1
    assert len(ledger.run_ids()) == 2


def test_what_is_done_already_is_not_done_again(steps_job: TrainingJob, ledger: Ledger) -> None:
    first, heard = json.loads(json.dumps(train(steps_job, ledger, Begin.NEW))), Remembers()
    spent = phases(ledger, first["run_id"])
    assert train(steps_job, ledger, Begin.RESUME, heard) == first
    assert "is done already" in heard.stages[-1]
    assert phases(ledger, first["run_id"]) == spent
    assert train(steps_job, ledger, Begin.NEW)["run_id"] != first["run_id"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "^seed=1: the run in .* was begun with 0; --resume goes on with the same"),
        ({"training": {"lr": 0.01}}, r"^training\.lr=0\.01: the run in .* was begun with None"),
    ],
)
def test_another_job_is_refused_and_nothing_is_touched(
    steps_job: TrainingJob, ledger: Ledger, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(steps_job, ledger, listener=Remembers(stop_after=5))
    folder = RunFolder(steps_job.out)
    before = (ledger.run_ids(), folder.stored(), Checkpoints(folder.checkpoints).steps())
    with pytest.raises(RequestError, match=message) as raised:
        train(replace(steps_job, **change), ledger)
    assert "\n" not in str(raised.value)
    assert (ledger.run_ids(), folder.stored(), Checkpoints(folder.checkpoints).steps()) == before


def test_how_it_is_computed_may_change(steps_job: TrainingJob, ledger: Ledger) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(steps_job, ledger, listener=Remembers(stop_after=5))
    document = train(replace(steps_job, training={"accumulate": 2}), ledger)
    assert document["training"]["n_steps"] == N_STEPS


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_serves(
    steps_job: TrainingJob, ledger: Ledger, never_stopped: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(steps_job, ledger, listener=Remembers(stop_after=5))
    with pytest.raises(KeyboardInterrupt):
        train(steps_job, ledger, listener=Remembers(stop_after=9))
    folder = RunFolder(steps_job.out).checkpoints
    newest, older = Checkpoints(folder).steps()
    shard = folder / f"step-{newest:09d}" / "__0_0.distcp"
    shard.write_bytes(shard.read_bytes()[:-1000])
    heard = Remembers()
    assert train(steps_job, ledger, listener=heard)["model"]["digest"] == never_stopped
    assert heard.steps[0] == older + 1
    (line,) = (stage for stage in heard.stages if "damaged" in stage)
    assert f"step-{newest:09d}" in line


def test_other_data_than_the_checkpoint_was_taught_is_refused(
    steps_job: TrainingJob, ledger: Ledger, tmp_path: Path, corpus_folder: Path
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for path in corpus_folder.iterdir():
        (folder / path.name).write_text(path.read_text())
    mine = replace(steps_job, data=DataSpec.of(folder))
    with pytest.raises(KeyboardInterrupt):
        train(mine, ledger, listener=Remembers(stop_after=5))
    for path in folder.iterdir():
        path.write_text(path.read_text().replace("value", "other_name"))
    with pytest.raises(
        CheckpointError, match=r"its (tokenizer|data) is .*, this run's is .*; nothing was changed"
    ) as e:
        train(mine, ledger)
    assert "\n" not in str(e.value)
    assert Checkpoints(RunFolder(mine.out).checkpoints).steps()[0] == 5


def copied(corpus_folder: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in corpus_folder.iterdir():
        (folder / path.name).write_text(path.read_text())
    return folder


def test_data_that_moved_is_the_same_data(
    steps_job: TrainingJob, ledger: Ledger, tmp_path: Path, corpus_folder: Path, never_stopped: str
) -> None:
    mine = replace(steps_job, data=DataSpec.of(copied(corpus_folder, tmp_path / "texts")))
    with pytest.raises(KeyboardInterrupt):
        train(mine, ledger, listener=Remembers(stop_after=5))
    (tmp_path / "texts").rename(tmp_path / "moved")
    heard = Remembers()
    document = train(replace(mine, data=DataSpec.of(tmp_path / "moved")), ledger, listener=heard)
    assert heard.steps[0] == 6
    assert document["model"]["digest"] == never_stopped
    assert json.loads((mine.out.with_name("model.run") / "run.json").read_text())["data_paths"] == [
        str(tmp_path / "texts")
    ], "for information"


def test_other_data_is_refused_before_there_is_a_checkpoint_too(
    steps_job: TrainingJob, ledger: Ledger, tmp_path: Path, corpus_folder: Path
) -> None:
    mine = replace(steps_job, data=DataSpec.of(copied(corpus_folder, tmp_path / "texts")))
    killed(mine, ledger)
    for path in (tmp_path / "texts").iterdir():
        path.write_text(path.read_text().replace("value", "other_name"))
    with pytest.raises(RequestError, match=r"^data=.* is not what the run in .* was begun with .*--restart") as raised:
        train(mine, ledger)
    assert "\n" not in str(raised.value)


def killed(job: TrainingJob, ledger: Ledger) -> str:
    """A run that ended in its fourth step, before any checkpoint; its id."""
    with pytest.MonkeyPatch.context() as patch:
        step, calls = TrainingStep.__call__, iter(range(100))

        def dies(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == 3:
                raise TwobillsError("killed")
            return step(*args, **kwargs)

        patch.setattr(TrainingStep, "__call__", dies)
        with pytest.raises(TwobillsError, match="killed"):
            train(replace(job, checkpoint_every_s=1e9), ledger)
    assert not Checkpoints(RunFolder(job.out).checkpoints).steps()
    return ledger.run_ids()[0]


def test_tokens_that_are_taken_up_were_not_made_in_vain(
    steps_job: TrainingJob, ledger: Ledger, never_stopped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the first checkpoint: the steps are lost, what the tokens took is not; without them it is."""
    run_id = killed(steps_job, ledger)
    before = phases(ledger, run_id)[Phase.PRETRAIN]
    losses: list[Usage] = []

    def noting(ledger: Ledger, run_id: str, *args: Any, **kwargs: Any) -> None:
        lose(ledger, run_id, *args, **kwargs)
        losses.append(ledger.measured_bills(run_id)[Job.TRAINING].usage)

    monkeypatch.setattr(training_job, "lose", noting)
    assert train(steps_job, ledger)["model"]["digest"] == never_stopped
    kept, lost = (losses[0].phases[phase] for phase in (Phase.PRETRAIN, Phase.LOST))
    assert kept.tokens == kept.flops == 0, "no step is kept"
    assert lost.flops == before.flops > 0
    assert kept.chip_s > 0
    assert kept.chip_s + lost.chip_s == pytest.approx(before.chip_s)
    used = phases(ledger, run_id)
    assert used[Phase.PRETRAIN].tokens == N_STEPS * 2 * 64


def test_tokens_that_are_gone_were_made_in_vain(steps_job: TrainingJob, ledger: Ledger) -> None:
    run_id = killed(steps_job, ledger)
    before = phases(ledger, run_id)[Phase.PRETRAIN]
    shutil.rmtree(RunFolder(steps_job.out).data)
    train(steps_job, ledger)
    assert phases(ledger, run_id)[Phase.LOST].chip_s >= before.chip_s * 0.999


def test_a_loss_that_is_no_number_leaves_the_last_good_checkpoint(
    steps_job: TrainingJob, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, calls = SpikeGuard.__call__, iter(range(100))

    def diverge(guard: SpikeGuard, loss: float, grad_norm: float) -> bool:
        return judge(guard, float("nan") if next(calls) == 8 else loss, grad_norm)

    monkeypatch.setattr(SpikeGuard, "__call__", diverge)
    monkeypatch.setattr("twobills.flows.saving.MAX_COST_FRAC", 0.99)
    with pytest.raises(DivergedError, match=r"^step 8: the loss is nan; lower lr=0\.006 or muon_lr=0\.01") as raised:
        train(steps_job, ledger)
    assert "\n" not in str(raised.value)
    steps = Checkpoints(RunFolder(steps_job.out).checkpoints).steps()
    assert steps
    assert max(steps) <= 8
    assert ledger.outcome(ledger.run_ids()[0]) is Outcome.FAILED


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(
    steps_job: TrainingJob, ledger: Ledger, never_stopped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr("twobills.jobs.training.checkpoint._write_state", full)
        with pytest.raises(TwobillsError, match=r"checkpoint of step \d+ cannot be written \(No space left"):
            train(steps_job, ledger)
    assert train(steps_job, ledger)["model"]["digest"] == never_stopped


def test_only_one_process_trains_in_a_folder(steps_job: TrainingJob) -> None:
    with (
        RunFolder(steps_job.out).opened(),
        pytest.raises(RequestError, match=f"process {os.getpid()} is training here"),
        RunFolder(steps_job.out).opened(),
    ):
        pass
    assert not RunFolder(steps_job.out).path.exists(), "nothing was begun, nothing is left"


def test_the_plan_is_stored_once_and_the_bill_is_held_against_it(steps_job: TrainingJob, ledger: Ledger) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(steps_job, ledger, listener=Remembers(stop_after=5))
    document = train(steps_job, ledger)
    run_id = document["run_id"]
    assert len(ledger.records(run_id, RecordKind.PLAN)) == 1
    assert len(ledger.records(run_id, RecordKind.STARTED)) == 2
    gaps = document["bills"]["training"]["gaps"]
    assert gaps["phases"]["lost"]["work_usd"] == 0, "time without work is a matter of speed"
    assert gaps["phases"]["pretrain"]["work_usd"] == pytest.approx(0, abs=1e-12)
    assert gaps["work_usd"] + gaps["speed_usd"] + gaps["price_usd"] == pytest.approx(gaps["total_usd"])


def test_readings_say_how_far_training_was(steps_job: TrainingJob, ledger: Ledger) -> None:
    run_id = train(steps_job, ledger)["run_id"]
    last = ledger.records(run_id, RecordKind.READING)[-1].body
    assert last["step"] == N_STEPS
    assert last["metrics"]["loss"] > 0
    assert last["metrics"]["grad_norm"] > 0
    assert threading.active_count() < 5, "writers end with their runs"
