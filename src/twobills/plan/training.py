"""The predicted training bill of any model on any chips: steps, days, megawatt-hours, dollars, with what goes wrong.

Tokens make steps, each as long as the fastest parallel plan that fits takes (``plan.chosen_step``). Evaluation comes
on top as a share of the training time, then checkpoints, work done twice and restarts (``plan.failures``), then
pauses. Joules are counted at the server's plug: rated chip watts x server's factor x mean draw; the facility's are
PUE times that. A step's interval is the step forecast's error. A run's is how far the hours that published runs
reported ended from such forecasts (``Calibration.run_low``, ``run_high``), combined in logarithms with the ranges
that sources give: for lost work the time between failures, in energy the mean draw, the server's factor and PUE.
Left out: data preparation, experiments before the run, hyperparameter search, waiting for machines, price changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from twobills.counts.flops import train_flops_per_token
from twobills.counts.params import count_params
from twobills.counts.sharded_totals import executed_flops, moved_bytes
from twobills.money.bill import Bill, price
from twobills.money.rates import Rates
from twobills.plan.chosen_step import Asked, ChosenStep, chosen_step
from twobills.plan.failures import (
    MIN_GOODPUT_FRAC,
    FailingRun,
    Goodput,
    failing_run,
    goodput,
    goodput_interval,
    pauses_s,
)
from twobills.plan.interval import Interval, Spread, combined, forecast_spread
from twobills.plan.space import Fixed
from twobills.specs.calibration import Calibration
from twobills.specs.cluster import ClusterSpec
from twobills.specs.model import ModelSpec
from twobills.specs.run import JobKind, TrainingRun
from twobills.specs.running import Running
from twobills.usage import Energy, Job, Origin, Phase, PhaseUsage, Stamp, Usage

CHECKPOINT_BYTES_PER_PARAM = 14.0
"""Of a parameter that is trained: working weight in 16 bits, master weight and two moments in fp32."""
PHASE_OF: Mapping[JobKind, Phase] = {
    JobKind.PRETRAIN: Phase.PRETRAIN,
    JobKind.FINETUNE: Phase.FINETUNE,
    JobKind.LORA: Phase.FINETUNE,
    JobKind.DISTILL: Phase.DISTILL,
}
_NO_SPREAD = Spread(1.0, 1.0)


class RunFigures(NamedTuple):
    """What a run comes to, each figure with its interval."""

    step_s: Interval
    tokens_per_s: Interval
    mfu: Interval
    """Model FLOP/s over the 16-bit dense peak of all chips, as ``counts.flops`` counts model FLOPs."""
    hfu: Interval
    """Executed FLOP/s, recomputation included, over the same peak."""
    train_s: Interval
    """Wall seconds of the steps alone."""
    wall_s: Interval
    """With evaluation, checkpoints, lost work and restarts."""
    chip_s: Interval
    facility_j: Interval | None
    """None where the chip's power is not known."""
    total_usd: Interval
    phase_usd: Mapping[Phase, Interval]


class RunPlan(NamedTuple):
    """A run that has not begun: how it would go and what it should cost."""

    model: ModelSpec
    run: TrainingRun
    cluster: ClusterSpec
    running: Running
    step: ChosenStep
    goodput: Goodput
    pauses_s: float
    """Rollbacks, debugging, waiting: wall seconds beyond what machine failures cost."""
    checkpoint_bytes: float
    bill: Bill
    figures: RunFigures


def plan_run(
    model: ModelSpec,
    run: TrainingRun,
    cluster: ClusterSpec,
    rates: Rates,
    running: Running,
    calibration: Calibration,
    *,
    fixed: Fixed | None = None,
    dp: int | None = None,
) -> RunPlan:
    """The plan and its bill. ``fixed`` and ``dp``: what of the parallel plan is given, the rest is chosen.

    Raises SpecError, one line, where something contradicts itself or nothing fits, saying what would.
    """
    step = chosen_step(Asked(model, run, cluster, fixed or Fixed(), dp, calibration))
    train_s = run.n_steps * step.seconds
    checkpoint_bytes = CHECKPOINT_BYTES_PER_PARAM * step.adapted * count_params(model).total
    useful_s = train_s * (1 + running.evaluation_frac)
    failing = failing_run(useful_s, cluster.n_chips, checkpoint_bytes, running)
    spent = goodput(failing)
    paused_s = pauses_s(spent.wall_s, running)
    bill = price(_usage(run, cluster, running, step, train_s, spent, paused_s), rates)
    return RunPlan(
        model=model,
        run=run,
        cluster=cluster,
        running=running,
        step=step,
        goodput=spent,
        pauses_s=paused_s,
        checkpoint_bytes=checkpoint_bytes,
        bill=bill,
        figures=_figures(model, run, cluster, running, step, failing, bill, calibration),
    )


def model_flops_per_token(model: ModelSpec, run: TrainingRun) -> float:
    """Model FLOPs of one token, the MFU's numerator.

    Adapters spare the weights' gradients, a third of the products; a teacher adds its forward pass.
    """
    flops = train_flops_per_token(model, run.seq_len)
    if run.job is JobKind.LORA:
        flops -= 2 * count_params(model).matmul_active
    if run.teacher is not None:
        flops += train_flops_per_token(run.teacher, run.seq_len) / 3
    return flops


def server_watts(cluster: ClusterSpec, running: Running) -> float | None:
    """Mean draw of one chip with its share of the server, at the server's plug, W; None where it is not known."""
    watts = cluster.chip.watts
    return None if watts is None else watts * running.server_power_factor * running.mean_draw_frac


def step_flops(step: ChosenStep) -> float:
    """FLOPs that all chips execute in one step, a teacher's included."""
    tables = [step.student, *([step.teacher] if step.teacher else [])]
    return sum(float(executed_flops(table.work)[0]) for table in tables)


def _usage(
    run: TrainingRun,
    cluster: ClusterSpec,
    running: Running,
    step: ChosenStep,
    train_s: float,
    spent: Goodput,
    paused_s: float,
) -> Usage:
    tables = [step.student, *([step.teacher] if step.teacher else [])]
    flops_per_s = step_flops(step) / step.seconds
    bytes_per_s = sum(float(moved_bytes(table.work, step.rates.passes)[0]) for table in tables) / step.seconds
    watts = server_watts(cluster, running)

    def used(wall_s: float, *, tokens: float = 0.0, stepping_s: float = 0.0) -> PhaseUsage:
        chip_s = wall_s * cluster.n_chips
        return PhaseUsage(
            tokens=tokens,
            flops=flops_per_s * stepping_s,
            bytes=bytes_per_s * stepping_s,
            chip_s=chip_s,
            energy=Energy() if watts is None else Energy.of(watts * chip_s, Stamp.DECLARED),
        )

    phases = {PHASE_OF[run.job]: used(train_s, tokens=run.n_tokens, stepping_s=train_s)}
    if running.evaluation_frac:
        phases[Phase.EVALUATE] = used(train_s * running.evaluation_frac)
    phases[Phase.LOST] = used(spent.wall_s - spent.useful_s + paused_s, stepping_s=spent.lost_s)
    return Usage(job=Job.TRAINING, origin=Origin.PREDICTED, phases=phases)


def _figures(
    model: ModelSpec,
    run: TrainingRun,
    cluster: ClusterSpec,
    running: Running,
    step: ChosenStep,
    failing: FailingRun,
    bill: Bill,
    calibration: Calibration,
) -> RunFigures:
    forecast = forecast_spread(float(step.rates.log_sigma))
    whole = whole_run_spread(float(step.rates.log_sigma), calibration)
    wall = combined(bill.usage.total.chip_s / cluster.n_chips, whole)
    power = [_source_spread(running, name) for name in ("mean_draw_frac", "server_power_factor", "pue")]
    joules, usd = bill.usage.total.energy.total_j, bill.total_usd
    power_share = sum(line.energy_usd for line in bill.lines) / usd if usd else 0.0
    paid_power = [spread.weighted(power_share) for spread in power]
    train_s = run.n_steps * step.seconds
    peak_of_all = float(step.rates.peak_flops_per_s) * cluster.n_chips
    model_flops = model_flops_per_token(model, run) * run.tokens_per_step
    usd_spreads = {
        Phase.EVALUATE: (whole, _source_spread(running, "evaluation_frac"), *paid_power),
        Phase.LOST: (whole, _lost_spread(failing, running), *paid_power),
    }
    return RunFigures(
        step_s=combined(step.seconds, forecast),
        tokens_per_s=combined(run.tokens_per_step / step.seconds, forecast),
        mfu=combined(model_flops / step.seconds / peak_of_all, forecast),
        hfu=combined(step_flops(step) / step.seconds / peak_of_all, forecast),
        train_s=combined(train_s, forecast),
        wall_s=wall,
        chip_s=combined(bill.usage.total.chip_s, wall.spread),
        facility_j=combined(joules * running.pue, wall.spread, *power) if joules else None,
        total_usd=combined(usd, wall.spread, *paid_power),
        phase_usd={
            line.phase: combined(line.usd, *usd_spreads.get(line.phase, (whole, *paid_power))) for line in bill.lines
        },
    )


def _source_spread(running: Running, name: str) -> Spread:
    """The range that sources span around a default; none around a user's own figure."""
    fact, value = running.facts.get(name), getattr(running, name)
    if fact is None or fact.value != value or not value:
        return _NO_SPREAD
    return Spread(fact.low / value, fact.high / value)


def _goodput_spread(failing: FailingRun, running: Running) -> Spread:
    """Of the wall time, between the most and the least reliable chips that anybody reported."""
    mtbf = running.facts.get("mtbf_chip_s")
    if mtbf is None or mtbf.value != running.mtbf_chip_s:
        return _NO_SPREAD
    frac = goodput_interval(failing, mtbf.low, mtbf.high)
    least = max(frac.p5, min(MIN_GOODPUT_FRAC, frac.value))  # a run shorter than its checkpoint lies below
    return Spread(frac.value / frac.p95, frac.value / least)


def _lost_spread(failing: FailingRun, running: Running) -> Spread:
    """Of what checkpoints and failures cost, between the same chips."""
    wall, kept = _goodput_spread(failing, running), goodput(failing).goodput_frac
    if wall == _NO_SPREAD or kept >= 1:
        return _NO_SPREAD
    low, high = ((ratio / kept - 1) / (1 / kept - 1) for ratio in wall)
    return Spread(max(low, 0.0), high)


def whole_run_spread(log_sigma: float, calibration: Calibration) -> Spread:
    """Of a run's hours; wider for a family of chips that was not among the rows fitted."""
    unseen = math.sqrt(max(log_sigma**2 - calibration.log_sigma**2, 0.0))
    reported = combined(1.0, Spread(calibration.run_low, calibration.run_high), forecast_spread(unseen))
    return reported.spread


def without_failures(running: Running) -> Running:
    """The same operation on chips that never fail, without pauses."""
    return replace(running, mtbf_chip_s=float("inf"), pauses_frac=0.0)
