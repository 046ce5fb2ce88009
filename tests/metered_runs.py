"""Ledgers for tests of calibration: runs of a stated machine that took a known number of times as long as forecast."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from tests.machines import RATES, machine
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.plan.inference import InferencePlan, inference_plan_to_json, plan_inference
from twobills.plan.local import TrainingPlan, plan_training, training_plan_to_json
from twobills.plan.size_here import ladder
from twobills.specs.dtype import DType
from twobills.specs.experience import Experience, Part
from twobills.specs.serving import ServingSpec
from twobills.specs.training import TrainingSpec
from twobills.specs.workload import Workload
from twobills.usage import Job, Origin, Phase, PhaseUsage, Usage

MODEL = next(m for m in ladder(vocab_size=4096, max_seq_len=256) if m.d_model == 128)
N_CHIPS = 2
DONE_FRAC = 0.9
"""Of the planned tokens, so that work and speed are not taken for each other."""
FACTORS: Mapping[Part, float] = {
    Part.PREPARE: 1.6,
    Part.STEP: 1.25,
    Part.EVALUATE: 2.0,
    Part.PREFILL: 1.1,
    Part.DECODE: 0.5,
    Part.IDLE: 1.3,
}


def training_plan(experience: Experience | None = None) -> TrainingPlan:
    """100 steps, a held-out set and 2 MB to prepare."""
    spec = TrainingSpec(n_steps=100, batch_size=8, seq_len=256, dtype=DType.BF16, heldout_tokens=20_480)
    on = replace(machine(), experience=experience or Experience())
    return plan_training(MODEL, spec, on, RATES, corpus_bytes=2e6)


def inference_plan(experience: Experience | None = None) -> InferencePlan:
    """40 requests, 8 at once."""
    serving = ServingSpec(max_batch_size=16, max_context_len=256, n_kv_blocks=256)
    load = Workload(n_requests=40, prompt_tokens=96, answer_tokens=64, concurrency=8)
    on = replace(machine(), experience=experience or Experience())
    return plan_inference(MODEL, serving, load, on, RATES, startup_s=2.0)


def add_run(
    ledger: Ledger,
    slower: Mapping[Part, float] = FACTORS,
    *,
    experience: Experience | None = None,
    jobs: Collection[Job] = tuple(Job),
    name: str = "a test's CPU",
    outcome: Outcome = Outcome.DONE,
) -> str:
    """A run as the main job keeps it, planned with this experience; its parts took so many times as long."""
    run_id = ledger.start("run", {})
    of_machine = {"machine": {"name": name, "chip": "cpu-core", "n_chips": N_CHIPS}}
    if Job.TRAINING in jobs:
        plan = training_plan(experience)
        ledger.plan(run_id, plan.bill, {**of_machine, "training": training_plan_to_json(plan)})
        _train(ledger, run_id, slower)
    if Job.INFERENCE in jobs:
        served = inference_plan(experience)
        ledger.plan(run_id, served.bill, {**of_machine, **inference_plan_to_json(served)})
        _serve(ledger, run_id, slower)
    ledger.end(run_id, outcome)
    return run_id


def _train(ledger: Ledger, run_id: str, slower: Mapping[Part, float]) -> None:
    bare = training_plan()
    tokens = DONE_FRAC * bare.training.n_tokens
    steps_s = DONE_FRAC * bare.training.n_steps * bare.step.seconds * slower[Part.STEP]
    prepare_s = bare.bill.line(Phase.PRETRAIN).usage.chip_s / N_CHIPS - bare.training.n_steps * bare.step.seconds
    used = {
        Phase.PRETRAIN: PhaseUsage(tokens=tokens, chip_s=N_CHIPS * (steps_s + prepare_s * slower[Part.PREPARE])),
        Phase.EVALUATE: _scaled(bare.bill.line(Phase.EVALUATE).usage, slower[Part.EVALUATE]),
    }
    ledger.reading(run_id, Usage(job=Job.TRAINING, origin=Origin.MEASURED, phases=used), RATES)
    ledger.result(run_id, {"training": {"n_tokens": tokens, "wall_s": steps_s}})


def _serve(ledger: Ledger, run_id: str, slower: Mapping[Part, float]) -> None:
    bare = inference_plan().bill
    phases = {Phase.PREFILL: Part.PREFILL, Phase.DECODE: Part.DECODE, Phase.IDLE: Part.IDLE}
    used = {phase: _scaled(bare.line(phase).usage, slower[part]) for phase, part in phases.items()}
    ledger.reading(run_id, Usage(job=Job.INFERENCE, origin=Origin.MEASURED, phases=used), RATES)


def _scaled(used: PhaseUsage, factor: float) -> PhaseUsage:
    """The same work in so many times the seconds."""
    return PhaseUsage(tokens=used.tokens, chip_s=factor * used.chip_s)
