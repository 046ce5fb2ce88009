from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.runs import CHIP, CLUSTER, run_of
from tests.sharded import CALIBRATION, EXPERTS, LLAMA
from twobills.counts.layouts import Layouts
from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.perf.achieved import achieved
from twobills.plan.chosen_step import Asked, ChosenStep, adapted_share, chosen_step
from twobills.plan.evaluate import Evaluated, evaluate
from twobills.plan.space import Fixed, layouts_for
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import Recompute, Stack
from twobills.specs.run import JobKind, TrainingRun

BIG = replace(LLAMA, name="big", n_layers=80, d_model=8192, n_heads=64, d_head=128, d_ff=28672)
TINY = replace(LLAMA, name="tiny", n_layers=4)


def step_of(
    model: ModelSpec = LLAMA,
    run: TrainingRun | None = None,
    *,
    cluster: ClusterSpec = CLUSTER,
    dp: int | None = None,
    **fixed: Any,
) -> ChosenStep:
    return chosen_step(Asked(model, run or run_of(), cluster, Fixed(**fixed), dp, CALIBRATION))


def all_plans(model: ModelSpec, run: TrainingRun, cluster: ClusterSpec = CLUSTER) -> Evaluated:
    layouts = layouts_for(
        model, cluster, global_batch=run.global_batch, seq_len=run.seq_len, fixed=Fixed(), fp8=[False]
    )
    rates = achieved(cluster, Stack.OVERLAPPED, CALIBRATION)
    return evaluate(model, layouts, rates, seq_len=run.seq_len, memory_bytes=cluster.memory_bytes)


def test_the_fastest_plan_that_fits_is_taken() -> None:
    every, chosen = all_plans(BIG, run_of()), step_of(BIG)
    assert not every.fits.all()
    assert chosen.seconds == pytest.approx(every.time.seconds[every.fits].min())
    assert chosen.spare_bytes >= 0


def test_what_is_given_stays() -> None:
    plan = step_of(tp=4, pp=2, recompute=Recompute.FULL, dp=8).plan
    assert (plan.tp, plan.pp, plan.dp, plan.recompute) == (4, 2, 8, Recompute.FULL)


def test_a_free_plan_is_never_slower_than_a_given_one() -> None:
    free = step_of().seconds
    assert all(step_of(tp=tp).seconds >= free for tp in (1, 2, 4, 8))


def test_adapters_by_hand() -> None:
    """Two d x d matrices for queries and output, d x (d + d) for keys and values, and the MLP, in 1 layer."""
    model = replace(LLAMA, n_layers=1, n_heads=8, n_kv_heads=8, d_head=8, d_model=64, d_ff=100, vocab_size=10)
    adapters = 4 * ((64 + 64) + (64 + 128) + (64 + 64) + (64 + 200) + (100 + 64))
    assert adapted_share(model, 4) == pytest.approx(adapters / count_params(model).total)
    assert adapted_share(model, None) == 1.0


def test_adapters_leave_out_routers_and_count_every_expert() -> None:
    moe = EXPERTS.moe
    assert moe is not None
    more = replace(EXPERTS, moe=replace(moe, n_experts=32))
    per_expert = (1024 + 2 * 1408) + (1408 + 1024)
    difference = adapted_share(more, 1) * count_params(more).total - adapted_share(EXPERTS, 1) * (
        count_params(EXPERTS).total
    )
    assert difference == pytest.approx(14 * 16 * per_expert)


def test_adapters_need_less_memory_and_time_than_all_weights() -> None:
    full = step_of(tp=8, recompute=Recompute.NONE, micro_batch=1)
    lora = step_of(LLAMA, run_of(job=JobKind.LORA, lora_rank=16), tp=8, recompute=Recompute.NONE, micro_batch=1)
    assert lora.seconds < full.seconds
    assert lora.student.memory.total[0] < full.student.memory.total[0]


def test_a_teacher_takes_time_and_memory_beside_the_student() -> None:
    run = run_of(job=JobKind.DISTILL, teacher=BIG)
    alone, taught = step_of(TINY), step_of(TINY, run)
    assert taught.teacher is not None
    assert taught.teacher_s > 0
    assert taught.seconds >= alone.seconds + taught.teacher_s * (1 - 1e-9)
    assert taught.spare_bytes >= 0
    assert taught.teacher.memory.optimiser[0] == taught.teacher.memory.gradients[0] == 0


def test_student_and_teacher_are_the_fastest_pair_that_fits() -> None:
    """Held against all pairs, on chips so small that their memory decides."""
    cluster = replace(CLUSTER, chip=replace(CHIP, memory_bytes=32e9))
    run = run_of(job=JobKind.DISTILL, teacher=BIG)
    taught = step_of(LLAMA, run, cluster=cluster)
    students = all_plans(LLAMA, run, cluster)
    assert taught.teacher is not None
    room = students.spare_bytes
    teacher = taught.teacher
    # No other student with the same teacher is faster, and the pair fits.
    fits = room >= teacher.memory.total[0]
    assert taught.student.time.seconds[0] == pytest.approx(students.time.seconds[fits].min())
    assert taught.spare_bytes >= 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tp": 3}, r"^tp=3: does not divide n_heads=16"),
        ({"tp": 16}, r"^tp=16: wider than the fast links; the fast links of test-chip join 8 chips"),
        ({"pp": 17}, r"^pp=17: more pipeline stages than n_layers=16"),
        ({"dp": 5}, r"^dp=5: must divide n_chips=64"),
        ({"dp": 64, "tp": 2}, r"^dp=64: no plan of .* on 64 chips has it"),
        ({"run": run_of(global_batch=8), "dp": 16}, r"^global_batch=8: smaller than dp=16.* a batch of at least 16"),
        ({"run": run_of(global_batch=8), "tp": 1, "pp": 1, "cp": 1}, r"^global_batch=8: smaller than dp=64"),
        ({"run": run_of(seq_len=10_000)}, r"^seq_len=10000: .* has positions for 8192"),
        (
            {"run": run_of(seq_len=8192, job=JobKind.DISTILL, teacher=replace(TINY, max_seq_len=2048))},
            r"^seq_len=8192: the teacher tiny has positions for 2048",
        ),
    ],
)
def test_what_cannot_be_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as raised:
        step_of(LLAMA, given.pop("run", None), **given)
    assert "\n" not in str(raised.value)


def test_a_chip_without_the_format_is_one_line() -> None:
    old = replace(CLUSTER, chip=replace(CHIP, peak_flops_per_s={DType.BF16: 1e15}))
    with pytest.raises(SpecError, match=r"^dtype=fp8: chip test-chip has no peak in that format; it has bf16"):
        step_of(LLAMA, run_of(dtype=DType.FP8), cluster=old)


def test_chips_without_known_links_train_alone_only() -> None:
    lone = replace(CHIP, scaleup_chips=None, scaleup_bytes_per_s=None, scaleout_bytes_per_s=None)
    assert step_of(cluster=ClusterSpec(chip=lone, n_chips=1)).seconds > 0
    with pytest.raises(SpecError, match=r"^chip test-chip: neither its links nor its network are known"):
        step_of(cluster=ClusterSpec(chip=lone, n_chips=8))
    assert step_of(cluster=ClusterSpec(chip=lone, n_chips=8, scaleout_bytes_per_s=1e10)).seconds > 0


def test_what_does_not_fit_says_by_how_much_and_what_would() -> None:
    with pytest.raises(SpecError, match=r"^big on 2 x test-chip does not fit: .* lacks .* GB; ") as raised:
        step_of(BIG, cluster=replace(CLUSTER, n_chips=2))
    message = str(raised.value)
    assert "\n" not in message
    enough = int(message.split("what would fit: ")[1].split(" chips")[0])
    assert step_of(BIG, cluster=replace(CLUSTER, n_chips=enough)).spare_bytes >= 0
    with pytest.raises(SpecError, match="does not fit"):
        step_of(BIG, cluster=replace(CLUSTER, n_chips=enough // 2))


def test_what_was_given_is_named_where_it_is_what_does_not_fit() -> None:
    given: dict[str, Any] = {"tp": 8, "pp": 8, "recompute": Recompute.NONE, "micro_batch": 16}
    long = replace(BIG, max_seq_len=65536)
    with pytest.raises(SpecError, match=r"full recomputation.* a micro-batch of 1.* another parallel plan"):
        step_of(long, run_of(seq_len=16384, global_batch=16), **given)


def test_a_teacher_that_does_not_fit_says_so() -> None:
    run = run_of(job=JobKind.DISTILL, teacher=BIG)
    with pytest.raises(SpecError, match=r"tiny with its teacher big on 1 x test-chip does not fit: a chip lacks"):
        step_of(TINY, run, cluster=replace(CLUSTER, n_chips=1))


def test_a_table_of_one_row_is_a_plan() -> None:
    step = step_of()
    assert isinstance(step.student.layouts, Layouts)
    assert len(step.student.layouts.dp) == 1
    assert np.isfinite(step.seconds)
