"""The predicted training bill of our own trainer on a machine that was measured: steps, time, joules, dollars.

Of any model on any chips, with failures and intervals, see ``plan.training``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from twobills.counts.flops import train_flops_per_token
from twobills.counts.training_memory import rows_at_once
from twobills.errors import SpecError
from twobills.money.bill import Bill, price
from twobills.money.rates import Rates
from twobills.perf.capacity import TrainingMemory, most_rows, training_memory
from twobills.perf.energy import declared_energy
from twobills.perf.step import StepForecast, evaluate_step, train_step
from twobills.plan.interval import Interval, around
from twobills.specs.experience import JobExperience, Part
from twobills.specs.hardware import MachineSpec
from twobills.specs.model import ModelSpec
from twobills.specs.training import TrainingSpec
from twobills.units import show_bytes
from twobills.usage import Job, Origin, Phase, PhaseUsage, Usage

PREPARE_BYTES_PER_S = 2.0e6
"""Assumed: corpus bytes per second through tokenizer training and encoding, all cores together."""


class TrainingPlan(NamedTuple):
    """A run that has not begun: what it will do and what it should cost."""

    model: ModelSpec
    training: TrainingSpec
    machine: MachineSpec
    step: StepForecast
    memory: TrainingMemory
    bill: Bill
    wall_s: Interval
    total_usd: Interval
    mfu: float
    """Model FLOP/s as a fraction of the data sheet's peak, else of the best product rate that was measured."""
    learned: JobExperience | None
    """The runs of this machine that the plan is calibrated on."""


def plan_training(
    model: ModelSpec,
    training: TrainingSpec,
    machine: MachineSpec,
    rates: Rates,
    *,
    corpus_bytes: float = 0.0,
    spent_s: float = 0.0,
) -> TrainingPlan:
    """The plan and its bill. ``corpus_bytes`` are tokenised first; ``spent_s`` have passed when the plan is made.

    Raises SpecError if it does not fit in memory.
    """
    shape = {"batch_size": training.batch_size, "seq_len": training.seq_len, "dtype": training.dtype}
    how = {"accumulate": training.accumulate, "optimizer": training.optimizer}
    memory = training_memory(model, machine, **shape, **how)  # type: ignore[arg-type]
    if not memory.fits:
        raise SpecError(_does_not_fit(model, training, machine, memory))
    step = train_step(model, machine, **shape, **how)  # type: ignore[arg-type]
    prepare_s = spent_s + machine.experience.slower(Part.PREPARE) * corpus_bytes / PREPARE_BYTES_PER_S
    train_s = step.seconds * training.n_steps
    phases = {Phase.PRETRAIN: _used(machine, prepare_s + train_s, training.n_tokens, step, training.n_steps)}
    if training.heldout_tokens:
        forward = evaluate_step(model, machine, **shape)  # type: ignore[arg-type]
        n = training.heldout_tokens / training.tokens_per_step
        phases[Phase.EVALUATE] = _used(machine, forward.seconds * n, training.heldout_tokens, forward, n)
    usage = Usage(job=Job.TRAINING, origin=Origin.PREDICTED, phases=phases)
    bill = price(usage, rates)
    sigma = training_log_sigma(machine)
    return TrainingPlan(
        model=model,
        training=training,
        machine=machine,
        step=step,
        memory=memory,
        bill=bill,
        wall_s=around(usage.total.chip_s / machine.n_chips, sigma),
        total_usd=around(bill.total_usd, sigma),
        mfu=mfu(model, training, machine, training.tokens_per_step / step.seconds),
        learned=machine.experience.training,
    )


def training_log_sigma(machine: MachineSpec) -> float:
    """Standard deviation of ln(actual / forecast) of training here: what runs taught, else what is assumed."""
    learned = machine.experience.training
    return learned.log_sigma if learned else machine.efficiency.log_sigma


def mfu(model: ModelSpec, training: TrainingSpec, machine: MachineSpec, tokens_per_s: float) -> float:
    """Model FLOP/s at this speed over the machine's peak: the data sheet's, else the best measured product rate."""
    model_flops_per_s = train_flops_per_token(model, training.seq_len) * tokens_per_s
    return model_flops_per_s / peak_flops_per_s(machine, training)


def peak_flops_per_s(machine: MachineSpec, training: TrainingSpec) -> float:
    """The denominator of MFU on this machine, FLOP/s."""
    datasheet = machine.chip.peak_flops_per_s.get(training.dtype)
    if datasheet is not None:
        return datasheet * machine.n_chips
    curves = machine.efficiency.flops_per_s[training.dtype]
    return max(rate for curve in curves.values() for _, rate in curve)


def training_plan_to_json(plan: TrainingPlan) -> dict[str, Any]:
    """The plan as plain JSON, base units in the key names."""
    training = plan.training
    return {
        "n_steps": training.n_steps,
        "batch_size": training.batch_size,
        "seq_len": training.seq_len,
        "n_tokens": training.n_tokens,
        "dtype": training.dtype.value,
        "step_s": plan.step.seconds,
        "tokens_per_s": training.tokens_per_step / plan.step.seconds,
        "mfu": plan.mfu,
        "peak_memory_bytes": plan.memory.needed_bytes,
        "wall_s": plan.wall_s.to_json(),
        "total_usd": plan.total_usd.to_json(),
        "calibration": plan.learned.to_json() if plan.learned else None,
        "bill": plan.bill.to_json(),
    }


def _does_not_fit(model: ModelSpec, training: TrainingSpec, machine: MachineSpec, memory: TrainingMemory) -> str:
    there = f"{machine.chip.name} has {show_bytes(memory.available_bytes)}"
    if memory.step.state_bytes > memory.available_bytes:
        state = f"model {model.name}: weights and optimiser alone take {show_bytes(memory.step.state_bytes)}"
        return f"{state} and {there}; only a smaller model would fit on one machine"
    needed = f"model {model.name}: training needs {show_bytes(memory.needed_bytes)}"
    at_once = rows_at_once(training.batch_size, training.seq_len, training.accumulate, by_hand=machine.by_hand)
    largest = most_rows(
        model, machine, seq_len=training.seq_len, dtype=training.dtype, optimizer=training.optimizer, limit=at_once
    )
    if not largest:
        return f"{needed} and {there}; only a smaller model or seq_len would fit"
    fits = f"batch_size={largest * training.accumulate} is the largest that fits"
    return f"{needed} and {there}; {fits}, or this one with training.accumulate={-(-training.batch_size // largest)}"


def _used(machine: MachineSpec, wall_s: float, n_tokens: float, step: StepForecast, n_steps: float) -> PhaseUsage:
    chip_s = wall_s * machine.n_chips
    return PhaseUsage(
        tokens=n_tokens,
        flops=step.flops * n_steps,
        bytes=step.bytes * n_steps,
        chip_s=chip_s,
        energy=declared_energy(machine, chip_s),
    )
