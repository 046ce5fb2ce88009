"""The training flow: plan before work, a bill that is kept however it ends, and gaps that mean what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from twobills.counts.params import count_params
from twobills.errors import TwobillsError
from twobills.flows import planned_job, training_job
from twobills.flows.accounts import account
from twobills.flows.listener import Listener, TrainingProgress
from twobills.flows.machine import MeasuredMachine
from twobills.flows.planned_job import PlannedJob, plan_job, planned_job_to_json
from twobills.flows.training_job import run_job
from twobills.jobs.data.corpus import read_corpus
from twobills.jobs.inference.engine import Engine
from twobills.jobs.inference.weights import load_folder
from twobills.jobs.training.loop import Step, Trainer
from twobills.jobs.training.step import StepResult, TrainingStep
from twobills.ledger.reconcile import reconcile
from twobills.ledger.record import Outcome, RecordKind
from twobills.ledger.store import Ledger
from twobills.meter.clock import ManualClock
from twobills.meter.meter import Meter
from twobills.meter.power import DeclaredPower
from twobills.plan.local import PREPARE_BYTES_PER_S
from twobills.serving.request import SamplingParams
from twobills.specs.dtype import DType
from twobills.specs.job import TrainingJob
from twobills.specs.serving import ServingSpec
from twobills.usage import Job, Phase


class Heard(Listener):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.steps: list[TrainingProgress] = []

    def found(self, part: str, document: Any) -> None:
        assert document
        self.parts.append(part)

    def training(self, progress: TrainingProgress) -> None:
        self.steps.append(progress)


@pytest.fixture
def planned(job: TrainingJob, measured: MeasuredMachine, monkeypatch: pytest.MonkeyPatch) -> PlannedJob:
    """A plan that is carried out however slow this machine is just now."""
    monkeypatch.setattr(planned_job, "OVERTIME", 1e6)
    return plan_job(job, read_corpus(job.data), measured)


def test_a_job_from_corpus_to_frozen_folder(planned: PlannedJob, ledger: Ledger, job: TrainingJob) -> None:
    heard = Heard()
    with account(ledger, "train", {}) as run_id:
        ledger.plan(run_id, planned.plan.bill, planned_job_to_json(planned))
        trained = run_job(planned.task(max_s=planned.max_s), ledger, run_id, heard)
    loaded = load_folder(job.out)
    assert loaded.digest == trained.digest
    assert loaded.manifest is not None
    assert loaded.manifest["training_bill"]["origin"] == "measured"
    assert loaded.manifest["lineage"]["data"]["split"].startswith("by sha256 of the relative path")
    assert heard.parts == ["data", "quality"]
    assert heard.steps[-1].progress == 1.0
    assert heard.steps[-1].usd > 0
    assert 0 < trained.quality["heldout_bits_per_byte"] < 8
    kinds = [record.kind for record in ledger.records(run_id)]
    assert kinds.index(RecordKind.PLAN) < kinds.index(RecordKind.READING)
    assert ledger.outcome(run_id) is Outcome.DONE


@pytest.mark.parametrize(
    "choice",
    [{"activation": "relu2"}, {"qk_norm": True, "tied_embeddings": False}],
    ids=["arcee", "qwen3"],
)
def test_a_job_of_another_family_is_counted_trained_and_served(
    choice: dict[str, Any], job: TrainingJob, measured: MeasuredMachine, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder opens in ``transformers`` (where it is there), and our engine and it give the same answer."""
    monkeypatch.setattr(planned_job, "OVERTIME", 1e6)
    job = replace(job, model={**job.model, **choice}, steps=3, dtype="fp32")
    planned = plan_job(job, read_corpus(job.data), measured)
    with account(ledger, "train", {}) as run_id:
        trained = run_job(planned.task(), ledger, run_id, Listener())
    loaded = load_folder(job.out)
    assert replace(loaded.spec, name=trained.model.name) == planned.plan.model
    assert sum(p.numel() for p in loaded.decoder.parameters()) == count_params(planned.plan.model).total
    prompt = tuple(loaded.tokenizer().encode("def function_").ids)
    serving = ServingSpec(
        max_batch_size=1, batch_size_tokens=16, kv_block_tokens=4, n_kv_blocks=32, max_context_len=64, dtype=DType.FP32
    )
    answer = list(Engine(loaded, serving).generate(prompt, SamplingParams(max_tokens=12)))
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(job.out, dtype=torch.float32)
    whole = theirs.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :].tolist()
    assert answer[: len(whole)] == whole[: len(answer)]
    assert len(whole) >= 1


def test_the_plan_chooses_a_size_from_the_machine(job: TrainingJob, measured: MeasuredMachine) -> None:
    corpus = read_corpus(job.data)
    short, long = (
        plan_job(replace(job, model={}, minutes=minutes), corpus, measured).plan.training.n_tokens
        for minutes in (0.1, 10)
    )
    assert long > short
    document = planned_job_to_json(plan_job(replace(job, model={}), corpus, measured))
    assert sum(size["chosen"] for size in document["sizes"]) == 1
    assert document["law"]["extrapolated"]


class PlannedTime:
    """Time that passes exactly as planned, or ``slower`` times as long: preparation, and each step."""

    def __init__(self, planned: PlannedJob, monkeypatch: pytest.MonkeyPatch, *, slower: float = 1.0) -> None:
        self.clock = clock = ManualClock()
        step, prepare = TrainingStep.__call__, training_job._Training._prepare
        power = DeclaredPower(4.0, 2, clock)
        corpus_bytes = planned.corpus.training_bytes + planned.corpus.heldout_bytes

        def timed_step(training: TrainingStep, *args: Any, **kwargs: Any) -> StepResult:
            clock.advance(slower * planned.plan.step.seconds)
            return step(training, *args, **kwargs)

        def timed_prepare(training: Any) -> Any:
            clock.advance(slower * corpus_bytes / PREPARE_BYTES_PER_S)
            return prepare(training)

        def meter(job: Job, *, resting: Phase, **_: Any) -> Meter:
            return Meter(job, n_chips=planned.machine.spec.n_chips, resting=resting, power=power, clock=clock)

        monkeypatch.setattr(TrainingStep, "__call__", timed_step)
        monkeypatch.setattr(training_job._Training, "_prepare", timed_prepare)
        monkeypatch.setattr(training_job, "Meter", meter)


def pretrain_gaps(planned: PlannedJob, ledger: Ledger) -> dict[str, float]:
    """Runs the job; the gaps of its pre-training phase in fractions of that phase's plan."""
    with account(ledger, "train", {}) as run_id:
        ledger.plan(run_id, planned.plan.bill, {})
        run_job(planned.task(max_s=planned.max_s), ledger, run_id, Listener())
    bills = ledger.planned_bills(run_id)[Job.TRAINING], ledger.measured_bills(run_id)[Job.TRAINING]
    gaps = reconcile(*bills).phases[Phase.PRETRAIN]
    causes = {"work": gaps.work_usd, "speed": gaps.speed_usd, "price": gaps.price_usd}
    return {name: usd / gaps.planned_usd for name, usd in causes.items()}


def test_a_run_that_goes_as_planned_has_no_gap(
    planned: PlannedJob, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    PlannedTime(planned, monkeypatch)
    assert pretrain_gaps(planned, ledger) == pytest.approx({"work": 0, "speed": 0, "price": 0}, abs=1e-9)


def test_phases_add_up_to_the_whole_time(planned: PlannedJob, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    time = PlannedTime(planned, monkeypatch)
    with account(ledger, "train", {}) as run_id:
        run_job(planned.task(max_s=planned.max_s), ledger, run_id, Listener())
    used = ledger.measured_bills(run_id)[Job.TRAINING].usage.total
    assert used.chip_s == pytest.approx(time.clock.now_s * planned.machine.spec.n_chips)
    assert used.energy.declared_j == pytest.approx(4.0 * 2 * time.clock.now_s)


def test_a_step_at_half_speed_moves_only_the_speed_gap(
    planned: PlannedJob, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    PlannedTime(planned, monkeypatch, slower=2.0)
    assert pretrain_gaps(planned, ledger) == pytest.approx({"work": 0, "speed": 1, "price": 0}, abs=1e-9)


def test_an_extra_epoch_moves_only_the_work_gap(
    planned: PlannedJob, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step is done twice, data preparation included: twice the work, each unit at its planned speed."""
    PlannedTime(planned, monkeypatch)
    run: Callable[..., Iterator[Step]] = Trainer.run
    prepare = training_job._Training._prepare

    def again(trainer: Trainer, *args: Any, **kwargs: Any) -> Iterator[Step]:
        yield from run(trainer, *args, **kwargs)
        trainer.n_done = 0
        yield from run(trainer, *args, **kwargs)

    def prepare_again(training: Any) -> Any:
        prepare(training)
        return prepare(training)

    monkeypatch.setattr(Trainer, "run", again)
    monkeypatch.setattr(training_job._Training, "_prepare", prepare_again)
    assert pretrain_gaps(planned, ledger) == pytest.approx({"work": 1, "speed": 0, "price": 0}, abs=1e-9)


def test_a_doubled_price_moves_only_the_price_gap(
    planned: PlannedJob, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    PlannedTime(planned, monkeypatch)
    found = planned.machine.found
    dearer = replace(found, rates=replace(found.rates, usd_per_chip_s=2 * found.rates.usd_per_chip_s))
    gaps = pretrain_gaps(replace(planned, machine=replace(planned.machine, found=dearer)), ledger)
    assert gaps == pytest.approx({"work": 0, "speed": 0, "price": 1}, abs=1e-9)


def test_ctrl_c_keeps_what_was_spent(planned: PlannedJob, ledger: Ledger, job: TrainingJob) -> None:
    class Impatient(Listener):
        def training(self, progress: TrainingProgress) -> None:
            if progress.step == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), account(ledger, "train", {}) as run_id:
        run_job(planned.task(max_s=planned.max_s), ledger, run_id, Impatient())
    (run_id,) = ledger.run_ids()
    assert ledger.outcome(run_id) is Outcome.INTERRUPTED
    used = ledger.measured_bills(run_id)[Job.TRAINING].usage.phases[Phase.PRETRAIN]
    assert used.tokens == 3 * planned.plan.training.tokens_per_step
    assert used.chip_s > 0
    assert not job.out.exists()


def test_a_failure_is_recorded_as_one(ledger: Ledger) -> None:
    with pytest.raises(TwobillsError), account(ledger, "train", {}):
        raise TwobillsError("step 3: the loss is nan")
    (run_id,) = ledger.run_ids()
    (ended,) = ledger.records(run_id, RecordKind.ENDED)
    assert ended.body == {"outcome": "failed", "reason": "TwobillsError: step 3: the loss is nan"}


def test_nothing_half_written_is_left(
    planned: PlannedJob, ledger: Ledger, job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("twobills.jobs.training.freeze.save_file", fail)
    with pytest.raises(OSError, match="No space"), account(ledger, "train", {}) as run_id:
        run_job(planned.task(max_s=planned.max_s), ledger, run_id, Listener())
    assert [path.name for path in Path(job.out.parent).iterdir()] == ["model.run"]
