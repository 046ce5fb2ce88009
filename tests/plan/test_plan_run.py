from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs import CHIP, CLUSTER, POWERED, QUIET, RUNNING, planned, run_of
from tests.sharded import EXPERTS, LLAMA
from twobills.counts.flops import train_flops_per_token
from twobills.errors import SpecError
from twobills.plan.failures import FULL_PAUSES_S
from twobills.plan.space import Fixed
from twobills.plan.training import RunPlan, without_failures
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.parallel import Recompute
from twobills.specs.run import JobKind
from twobills.usage import Phase

TINY = replace(LLAMA, name="tiny", n_layers=4)
EXTRA: dict[JobKind, dict[str, Any]] = {JobKind.LORA: {"lora_rank": 8}, JobKind.DISTILL: {"teacher": TINY}}
some = settings(max_examples=100, deadline=None)
clusters = st.builds(
    ClusterSpec, chip=st.just(CHIP), n_chips=st.sampled_from([1, 8, 24, 64, 512]), scaleout_bytes_per_s=st.just(5e10)
)
layouts = st.sampled_from([None, Fixed(tp=8), Fixed(recompute=Recompute.FULL), Fixed(micro_batch=1)])


def faster(cluster: ClusterSpec, what: str, factor: float) -> ClusterSpec:
    """The same chips, better in one thing."""
    if what == "network":
        return replace(cluster, scaleout_bytes_per_s=factor * (cluster.scaleout_bytes_per_s or 0))
    if what == "flops":
        peaks = {dtype: factor * rate for dtype, rate in cluster.chip.peak_flops_per_s.items()}
        return replace(cluster, chip=replace(cluster.chip, peak_flops_per_s=peaks))
    return replace(cluster, chip=replace(cluster.chip, **{what: factor * getattr(cluster.chip, what)}))


def step_s(cluster: ClusterSpec, fixed: Fixed | None = None) -> float | None:
    try:
        return planned(run_of(global_batch=1536), cluster=cluster, fixed=fixed).step.seconds
    except SpecError:
        return None


@some
@given(
    clusters,
    st.sampled_from(["memory_bytes_per_s", "flops", "scaleup_bytes_per_s", "network", "memory_bytes"]),
    st.floats(1.0, 10.0),
    layouts,
)
def test_better_chips_are_never_slower(cluster: ClusterSpec, what: str, factor: float, fixed: Fixed | None) -> None:
    """Whether the plan is free or partly given."""
    before, after = step_s(cluster, fixed), step_s(faster(cluster, what, factor), fixed)
    if before is not None:
        assert after is not None
        assert after <= before * (1 + 1e-9)


@some
@given(
    st.sampled_from(["memory_bytes_per_s", "flops", "scaleup_bytes_per_s", "network"]),
    st.floats(1.0, 10.0),
    st.sampled_from([(1, 1), (8, 1), (4, 4), (1, 8)]),
)
def test_better_chips_are_never_slower_under_one_plan(what: str, factor: float, degrees: tuple[int, int]) -> None:
    tp, pp = degrees
    fixed = Fixed(tp=tp, pp=pp, cp=1, ep=1, micro_batch=1, recompute=Recompute.NONE, interleave=1)
    cluster = replace(CLUSTER, scaleout_bytes_per_s=5e10)
    before = planned(cluster=cluster, fixed=fixed, dp=64 // (tp * pp))
    after = planned(cluster=faster(cluster, what, factor), fixed=fixed, dp=64 // (tp * pp))
    assert before.step.plan == after.step.plan
    assert after.step.seconds <= before.step.seconds * (1 + 1e-9)


@some
@given(st.floats(1e7, 1e14), st.sampled_from([LLAMA, EXPERTS]), st.sampled_from(list(JobKind)))
def test_twice_the_tokens_are_twice_the_usage(n_tokens: float, model: Any, job: JobKind) -> None:
    """Exactly; lost work too, once both runs hold two checkpoints and last two days, as shorter ones hardly pause."""
    one, two = (planned(run_of(n_tokens=n * n_tokens, job=job, **EXTRA.get(job, {})), model=model) for n in (1, 2))
    for phase, used in one.bill.usage.phases.items():
        twice = two.bill.usage.phases[phase]
        assert twice.tokens == 2 * used.tokens
        if phase is Phase.LOST and (one.goodput.n_checkpoints <= 1 or one.goodput.wall_s < FULL_PAUSES_S):
            continue
        for figure in ("flops", "bytes", "chip_s"):
            assert getattr(twice, figure) == pytest.approx(2 * getattr(used, figure), rel=1e-9)


@some
@given(clusters, st.floats(1e9, 1e13), st.sampled_from([RUNNING, QUIET, without_failures(RUNNING)]))
def test_the_bill_adds_up(cluster: ClusterSpec, n_tokens: float, running: Any) -> None:
    plan = planned(run_of(n_tokens=n_tokens), cluster=cluster, running=running, rates=POWERED)
    spent, usage = plan.goodput, plan.bill.usage
    assert plan.bill.total_usd == pytest.approx(sum(line.usd for line in plan.bill.lines))
    assert usage.total.chip_s == pytest.approx(cluster.n_chips * (spent.wall_s + plan.pauses_s))
    parts = spent.useful_s + spent.checkpoint_s + spent.lost_s + spent.restart_s
    assert parts == pytest.approx(spent.wall_s)
    assert plan.figures.wall_s.value == pytest.approx(spent.wall_s + plan.pauses_s)
    assert plan.figures.total_usd.value == pytest.approx(plan.bill.total_usd)
    assert sum(i.value for i in plan.figures.phase_usd.values()) == pytest.approx(plan.bill.total_usd)
    assert all(i.p5 <= i.value <= i.p95 for i in (plan.figures.total_usd, *plan.figures.phase_usd.values()))


def test_pure_time_by_hand() -> None:
    """Where nothing fails the run is its steps, and the rented bill its chip-seconds."""
    plan = planned(running=QUIET)
    steps = 1e12 / (128 * 4096)
    assert plan.figures.train_s.value == pytest.approx(steps * plan.step.seconds)
    pretrain = plan.bill.usage.phases[Phase.PRETRAIN]
    assert pretrain.chip_s == pytest.approx(64 * steps * plan.step.seconds)
    assert plan.bill.line(Phase.PRETRAIN).usd == pytest.approx(1e-3 * pretrain.chip_s)
    assert Phase.EVALUATE not in plan.bill.usage.phases
    # One checkpoint at the end is all that is left of the rest.
    assert plan.bill.usage.phases[Phase.LOST].chip_s == pytest.approx(64 * plan.goodput.checkpoint_s)


def test_mfu_by_hand() -> None:
    plan = planned()
    model_flops_per_s = train_flops_per_token(LLAMA, 4096) * 128 * 4096 / plan.step.seconds
    assert plan.figures.mfu.value == pytest.approx(model_flops_per_s / (64 * 1e15))
    assert plan.figures.hfu.value >= plan.figures.mfu.value


@pytest.mark.parametrize("recompute", list(Recompute))
def test_recomputation_raises_executed_and_not_model_flops(recompute: Recompute) -> None:
    """A fourth forward pass in four thirds of the time at least; MFU falls with the speed."""
    plan, none = (planned(fixed=Fixed(tp=8, recompute=level)) for level in (recompute, Recompute.NONE))
    per_model = plan.figures.hfu.value / plan.figures.mfu.value
    without = none.figures.hfu.value / none.figures.mfu.value
    if recompute is Recompute.FULL:
        assert 1.2 < per_model / without < 4 / 3
    else:
        assert per_model == pytest.approx(without)


def test_joules_are_the_servers_and_pue_counts_once() -> None:
    """700 W x the server's factor x mean draw; the facility's are PUE times that, and so is what is paid."""
    plan = planned(rates=POWERED)
    total = plan.bill.usage.total
    watts = 700.0 * RUNNING.server_power_factor * RUNNING.mean_draw_frac
    assert total.energy.total_j == pytest.approx(watts * total.chip_s)
    assert plan.figures.facility_j is not None
    assert plan.figures.facility_j.value == pytest.approx(RUNNING.pue * total.energy.total_j)
    assert sum(line.energy_usd for line in plan.bill.lines) == pytest.approx(1e-8 * total.energy.total_j)


def test_a_chip_without_known_power_has_no_energy() -> None:
    plan = planned(cluster=replace(CLUSTER, chip=replace(CHIP, watts=None)))
    assert plan.figures.facility_j is None
    assert plan.bill.usage.total.energy.stamp is None


@pytest.mark.parametrize(
    ("job", "phase"),
    [
        (JobKind.PRETRAIN, Phase.PRETRAIN),
        (JobKind.FINETUNE, Phase.FINETUNE),
        (JobKind.LORA, Phase.FINETUNE),
        (JobKind.DISTILL, Phase.DISTILL),
    ],
)
def test_each_job_has_its_phase(job: JobKind, phase: Phase) -> None:
    plan = planned(run_of(job=job, **EXTRA.get(job, {})))
    assert plan.bill.usage.phases[phase].tokens == 1e12
    assert set(plan.bill.usage.phases) == {phase, Phase.EVALUATE, Phase.LOST}


def test_a_teacher_is_charged_to_the_student() -> None:
    """Its forward pass: two FLOPs a parameter and token beside the student's six."""
    teacher = replace(LLAMA, name="teacher")
    alone, taught = planned(), planned(run_of(job=JobKind.DISTILL, teacher=teacher))
    flops = alone.bill.usage.phases[Phase.PRETRAIN].flops, taught.bill.usage.phases[Phase.DISTILL].flops
    assert flops[1] / flops[0] == pytest.approx(4 / 3, rel=0.05)
    assert taught.figures.mfu.value > 0.5 * alone.figures.mfu.value
    assert taught.bill.total_usd > alone.bill.total_usd


def test_adapters_make_small_checkpoints() -> None:
    lora = planned(run_of(job=JobKind.LORA, lora_rank=8))
    assert lora.checkpoint_bytes == pytest.approx(lora.step.adapted * planned().checkpoint_bytes)
    assert lora.step.adapted < 0.05


def test_failures_and_pauses_cost_what_they_take() -> None:
    calm, usual = planned(running=without_failures(RUNNING)), planned()
    assert math.isinf(calm.goodput.mtbf_s)
    assert calm.pauses_s == 0
    assert usual.bill.line(Phase.LOST).usd > calm.bill.line(Phase.LOST).usd
    assert usual.bill.line(Phase.PRETRAIN).usd == calm.bill.line(Phase.PRETRAIN).usd


def test_chips_that_hardly_run_are_one_line() -> None:
    with pytest.raises(SpecError, match="cannot make progress"):
        planned(running=replace(RUNNING, mtbf_chip_s=3600.0))


def test_a_users_own_figure_has_no_range() -> None:
    """The energy's interval is the wall time's where its factors are the user's own."""
    own = {name: getattr(RUNNING, name) * 1.01 for name in ("pue", "mean_draw_frac", "server_power_factor")}
    figures = planned(running=replace(RUNNING, **own)).figures
    assert figures.facility_j is not None
    assert figures.facility_j.spread == pytest.approx(figures.wall_s.spread)
    ours = planned().figures
    assert ours.facility_j is not None
    assert ours.facility_j.spread.high > ours.wall_s.spread.high


def test_a_family_that_was_not_fitted_has_a_wider_interval() -> None:
    unseen = replace(CLUSTER, chip=replace(CHIP, family="cdna3"))
    known, unknown = planned().figures, planned(cluster=unseen).figures
    assert unknown.step_s.spread.high > known.step_s.spread.high
    assert unknown.wall_s.spread.high > known.wall_s.spread.high


def test_fp8_is_never_slower_to_compute_and_costs_less() -> None:
    assert planned(run_of(dtype=DType.FP8, global_batch=1024)).bill.total_usd < (
        planned(run_of(global_batch=1024)).bill.total_usd
    )


def test_a_plan_is_a_plan_of_its_parts() -> None:
    plan = planned()
    assert isinstance(plan, RunPlan)
    assert plan.step.plan.n_chips == plan.cluster.n_chips
