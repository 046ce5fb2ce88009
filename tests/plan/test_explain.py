from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs import CHIP, CLUSTER, planned, run_of
from tests.sharded import MODELS
from twobills.errors import SpecError
from twobills.plan.explain import Bound, StepPart, explain
from twobills.plan.space import Fixed
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.parallel import Recompute
from twobills.specs.run import JobKind


def parts_of(given: Fixed, **change: Any) -> dict[str, StepPart]:
    return {part.name: part for part in explain(planned(fixed=given, **change).step)}


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.sampled_from([1, 8, 64, 1024]),
    st.builds(
        Fixed,
        tp=st.sampled_from([None, 1, 8]),
        pp=st.sampled_from([None, 1, 3, 8]),
        recompute=st.sampled_from([None, *Recompute]),
    ),
    st.sampled_from([DType.BF16, DType.FP8]),
)
def test_the_parts_are_the_step(model: Any, n_chips: int, fixed: Fixed, dtype: DType) -> None:
    try:
        step = planned(
            run_of(dtype=dtype, global_batch=1536), model=model, cluster=replace(CLUSTER, n_chips=n_chips), fixed=fixed
        ).step
    except SpecError:
        return
    parts = explain(step)
    assert sum(part.seconds for part in parts) == pytest.approx(step.seconds)
    assert all(part.seconds >= 0 for part in parts)
    assert sum(part.to_json(step.seconds)["share_frac"] for part in parts) == pytest.approx(1.0)
    assert [part.seconds for part in parts] == sorted((part.seconds for part in parts), reverse=True)


def test_no_name_comes_twice_and_layers_of_all_kinds_are_one() -> None:
    step = planned(model=MODELS[4]).step
    names = [part.name for part in explain(step)]
    assert len(names) == len(set(names))
    assert not any(name.endswith(")") for name in names)


def test_what_hides_runs_longer_than_it_adds() -> None:
    """Tensor-parallel transfers hide by half in the test's calibration, and by nothing else."""
    sent = parts_of(Fixed(tp=8, pp=1))["activations between tensor-parallel ranks"]
    assert sent.bound is Bound.FAST_LINKS
    assert sent.seconds == pytest.approx(0.5 * sent.running_s)


def test_a_pipeline_fills_and_waits() -> None:
    found = parts_of(Fixed(tp=1, pp=8, interleave=1))
    assert found["pipeline filling and draining"].bound is Bound.PIPELINE
    assert "pipeline filling and draining" not in parts_of(Fixed(tp=1, pp=1))


def test_the_head_adds_nothing_to_a_stage_that_is_not_its_own() -> None:
    """16 layers over 3 stages: two hold 6 layers, so the third has one or two layers' time for the head."""
    cluster = replace(CLUSTER, n_chips=3)
    spared = parts_of(Fixed(tp=1, pp=3, interleave=1), cluster=cluster)["output head"]
    assert spared.seconds < spared.running_s
    whole = parts_of(Fixed(tp=1, pp=1), cluster=cluster)["output head"]
    assert whole.seconds == pytest.approx(whole.running_s)


def test_a_slow_chip_is_bound_by_arithmetic_and_a_starved_one_by_memory() -> None:
    slow = ClusterSpec(chip=replace(CHIP, peak_flops_per_s={DType.BF16: 1e12}), n_chips=1)
    starved = ClusterSpec(chip=replace(CHIP, memory_bytes_per_s=1e9), n_chips=1)
    given = Fixed(micro_batch=1)
    assert parts_of(given, cluster=slow)["gate and up"].bound is Bound.COMPUTE
    assert parts_of(given, cluster=starved)["gate and up"].bound is Bound.MEMORY


def test_gradients_cross_the_network_unless_one_server_holds_all() -> None:
    alike = Fixed(tp=1, pp=1, cp=1)
    far = explain(planned(fixed=alike, cluster=CLUSTER).step)
    near = explain(planned(fixed=alike, cluster=replace(CLUSTER, n_chips=8)).step)
    assert {p.bound for p in far if p.name.startswith("gradients")} == {Bound.NETWORK}
    assert {p.bound for p in near if p.name.startswith("gradients")} == {Bound.FAST_LINKS}


def test_a_teachers_parts_are_told_apart() -> None:
    step = planned(run_of(job=JobKind.DISTILL, teacher=MODELS[0])).step
    parts = explain(step)
    theirs = sum(part.seconds for part in parts if part.name.startswith("teacher: "))
    assert theirs == pytest.approx(step.teacher_s)
    assert sum(part.seconds for part in parts) == pytest.approx(step.seconds)
