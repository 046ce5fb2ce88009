"""Step times in the limits where they are known, and what must hold whatever the rates."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sharded import EXPERTS, FREE_LINKS, LLAMA, MODELS, RATES, many, one
from twobills.counts.sharded_params import sharded_params
from twobills.counts.sharded_step import Passes, Place, StepWork, Work, sharded_step
from twobills.counts.sharded_totals import executed_flops
from twobills.perf.achieved import CALL_S, Achieved
from twobills.perf.links import transfer_s
from twobills.perf.sharded_step import bound_by_flops, step_time, work_s
from twobills.specs.efficiency import OpKind
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import ParallelSpec, Recompute, Zero

SEQ_LEN = 4096
PRODUCTS_ONLY = FREE_LINKS._replace(bytes_per_s=np.inf, half_rate_flops=0.0, straggling=0.0)
MANY = {model.name: sharded_step(model, many(ep=4 if model.moe else 1), SEQ_LEN) for model in MODELS}


def time(
    plan: ParallelSpec, rates: Achieved = RATES, *, model: ModelSpec = LLAMA, batch: float = 64, **options: Any
) -> SimpleNamespace:
    """The parts of one plan's time as plain numbers."""
    found = step_time(sharded_step(model, one(plan, global_batch=batch), SEQ_LEN, **options), rates)
    return SimpleNamespace(**{name: float(part[0]) for name, part in found._asdict().items()})


def update_s(parts: StepWork, rates: Achieved) -> np.ndarray:
    return np.asarray(sum(work_s(w, rates) for w in parts.work if w.place is Place.STEP))


def call(kind: OpKind, *, flops: float = 0.0, n_bytes: float = 0.0, fp8: float = 0.0) -> Work:
    columns = (np.array([x]) for x in (flops, n_bytes, 1.0, fp8))
    return Work("a test's", kind, Place.LAYERS, *columns)


def test_an_operation_takes_the_longer_of_its_flops_and_its_bytes() -> None:
    for flops, n_bytes, expected in ((8e12, 1e9, 1e-2), (8e9, 2.5e12, 1.0), (0.0, 2.5e9, 1e-3)):
        product = call(OpKind.MATMUL, flops=flops, n_bytes=n_bytes)
        rates = RATES._replace(half_rate_flops=0.0)
        assert work_s(product, rates)[0] == pytest.approx(expected + CALL_S)
        assert bound_by_flops(product, rates)[0] == (flops == 8e12)


def test_a_product_of_the_half_rate_size_runs_at_half_of_the_rate() -> None:
    product = call(OpKind.MATMUL, flops=float(RATES.half_rate_flops))
    seconds = work_s(product, RATES)[0] - CALL_S
    assert RATES.half_rate_flops / seconds == pytest.approx(RATES.product_flops_per_s / 2)


def test_attention_and_8_bit_products_have_rates_of_their_own() -> None:
    rates = RATES._replace(half_rate_flops=0.0)
    seconds = {
        "16 bits": work_s(call(OpKind.MATMUL, flops=1e15), rates)[0],
        "8 bits": work_s(call(OpKind.MATMUL, flops=1e15, fp8=1.0), rates)[0],
        "attention": work_s(call(OpKind.ATTENTION, flops=1e15), rates)[0],
    }
    assert seconds["16 bits"] == pytest.approx(2 * seconds["8 bits"], rel=1e-4)
    assert seconds["attention"] == pytest.approx(2 * seconds["16 bits"], rel=1e-4)


def test_streams_move_as_often_as_the_software_does_but_products_once() -> None:
    thrice = RATES._replace(passes=3.0)
    stream, product = call(OpKind.ELEMENTWISE, n_bytes=2.5e12), call(OpKind.MATMUL, n_bytes=2.5e12)
    assert work_s(stream, thrice)[0] == pytest.approx(3 + CALL_S)
    assert work_s(product, thrice)[0] == pytest.approx(1 + CALL_S)
    assert work_s(call(OpKind.ELEMENTWISE), RATES)[0] == 0, "no work, no call"


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_one_chip_only_computes(model: ModelSpec) -> None:
    parts = sharded_step(model, one(global_batch=4), SEQ_LEN)
    found = step_time(parts, RATES)
    each = sum(work_s(w, RATES) * (1 if w.place is Place.STEP else 4) for w in parts.work)
    assert found.exposed_s == found.bubble_s == found.straggling_s == 0
    assert found.seconds == found.compute_s == pytest.approx(each)


@pytest.mark.parametrize("model", [m for m in MODELS if not m.moe and not m.latent], ids=lambda m: m.name)
def test_with_nothing_else_in_the_way_a_step_takes_its_flops_over_the_rate(model: ModelSpec) -> None:
    """All plans without a pipeline; kernel launches are what is left, below one part in a hundred here."""
    table = many()
    table = table.select(table.pp == 1)
    big = replace(model, d_model=8192, n_heads=64, n_kv_heads=64, d_head=128, d_ff=28672, d_embedding=None)
    parts = sharded_step(big, table, SEQ_LEN)
    rates = PRODUCTS_ONLY._replace(attention_flops_per_s=PRODUCTS_ONLY.product_flops_per_s)
    ideal = executed_flops(parts) / 64 / rates.product_flops_per_s
    found = step_time(parts, rates)
    latencies = sum(transfer_s(t, rates) for t in parts.transfers)
    assert np.all(found.compute_s >= ideal)
    assert np.all(found.seconds <= ideal * 1.01 + latencies * (table.n_micro + 1))


@pytest.mark.parametrize(("pp", "interleave", "n_micro"), [(2, 1, 8), (4, 1, 4), (4, 2, 16), (8, 2, 8)])
def test_narayanans_bubble(pp: int, interleave: int, n_micro: int) -> None:
    """Narayanan et al. 2021, section 2.2: the bubble over the ideal time is (p - 1)/(v m)."""
    parts = sharded_step(LLAMA, one(ParallelSpec(dp=1, pp=pp, interleave=interleave), global_batch=n_micro), SEQ_LEN)
    found = step_time(parts, FREE_LINKS)
    ideal = found.compute_s - update_s(parts, FREE_LINKS)
    assert float((found.bubble_s / ideal)[0]) == pytest.approx((pp - 1) / (interleave * n_micro), rel=1e-12)


def test_the_head_takes_the_place_of_a_layer_that_the_last_stage_lacks() -> None:
    """16 layers on 5 stages: four each but for the last, which has none; on 4 stages the head comes on top."""
    on_top, in_place = (time(ParallelSpec(dp=1, pp=pp), PRODUCTS_ONLY, batch=1) for pp in (4, 5))
    assert in_place.compute_s < on_top.compute_s
    layers = sharded_step(LLAMA, one(), SEQ_LEN).work
    four = sum(float(work_s(w, PRODUCTS_ONLY)[0]) for w in layers if w.place is Place.LAYERS) / 4
    assert in_place.compute_s == pytest.approx(four, rel=1e-3)


@pytest.mark.parametrize("zero", Zero)
@pytest.mark.parametrize(("pp", "interleave", "tp"), [(1, 1, 1), (4, 2, 2), (1, 1, 8)])
def test_each_further_micro_batch_takes_the_same_time(zero: Zero, pp: int, interleave: int, tp: int) -> None:
    """Twice the micro-batches is twice the time but for the bubble, the update and what is sent once a step."""
    plan = ParallelSpec(dp=2, tp=tp, pp=pp, interleave=interleave, zero=zero)
    found = [time(plan, batch=2 * n) for n in (8, 16, 24, 32)]
    more = np.diff([t.seconds for t in found])
    assert more == pytest.approx(np.full(3, more[0]), rel=1e-9)
    assert found[1].seconds <= 2 * found[0].seconds
    assert len({t.bubble_s for t in found}) == 1


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_parts_sum_to_the_whole_and_none_is_negative(model: ModelSpec) -> None:
    found = step_time(MANY[model.name], RATES)
    assert sum(found[1:]) == pytest.approx(found.seconds, rel=1e-12)
    for part in found:
        assert np.all(part >= -1e-15)


def test_free_links_leave_messages_only_exposed() -> None:
    for parts in MANY.values():
        silent = [t._replace(calls=t.calls * 0) for t in parts.transfers]
        quiet = step_time(parts._replace(transfers=tuple(silent)), FREE_LINKS)
        assert np.array_equal(quiet.exposed_s, np.zeros_like(quiet.exposed_s))
        messages = sum(transfer_s(t, FREE_LINKS) for t in parts.transfers) * parts.layouts.n_micro
        assert np.all(step_time(parts, FREE_LINKS).exposed_s <= messages + 1e-12)


def test_tensor_parallel_transfers_wait_but_for_what_software_overlaps() -> None:
    plan = ParallelSpec(dp=1, tp=8)
    waiting, half, hidden = (time(plan, RATES._replace(tensor_overlap=x)).exposed_s for x in (0.0, 0.5, 1.0))
    assert half == pytest.approx(waiting / 2)
    assert hidden == 0
    assert time(ParallelSpec(dp=8), RATES._replace(data_overlap=1.0)).exposed_s == 0


def test_data_parallel_transfers_hide_beside_what_there_is_to_hide_beside() -> None:
    """Slow enough a network, and the gradients of a step take as long whatever is computed meanwhile."""
    slow = RATES._replace(fast_bytes_per_s=1e9, slow_bytes_per_s=1e9, data_overlap=1.0, straggling=0.0)
    for plan in (ParallelSpec(dp=64), ParallelSpec(dp=64, zero=Zero.PARAMETERS)):
        parts = sharded_step(LLAMA, one(plan, global_batch=64), SEQ_LEN)
        sent = sum(transfer_s(t, slow) for t in parts.transfers)
        assert step_time(parts, slow).seconds == pytest.approx(sent + update_s(parts, slow))


def test_what_is_sent_once_hides_beside_one_micro_batch_only() -> None:
    slow = RATES._replace(fast_bytes_per_s=1e9, slow_bytes_per_s=1e9, data_overlap=1.0)
    exposed = [time(ParallelSpec(dp=64), slow, batch=64 * n).exposed_s for n in (1, 2, 8)]
    assert exposed == pytest.approx([exposed[0]] * 3)
    assert exposed[0] > 0


def test_straggling_counts_doublings_beyond_eight_chips() -> None:
    for chips, doublings in ((1, 0), (4, 0), (8, 0), (16, 1), (64, 3)):
        found = time(ParallelSpec(dp=chips))
        assert found.straggling_s == pytest.approx((found.seconds - found.straggling_s) * 0.01 * doublings)


def test_a_forward_pass_is_a_third_of_products_and_two_sevenths_of_attention() -> None:
    plan = ParallelSpec(dp=8, pp=2)
    train, forward = time(plan, PRODUCTS_ONLY), time(plan, PRODUCTS_ONLY, passes=Passes.FORWARD)
    assert train.compute_s / 3.5 < forward.compute_s < train.compute_s / 3


def test_replicas_of_a_teacher_have_nothing_to_tell_each_other() -> None:
    assert time(ParallelSpec(dp=8), passes=Passes.FORWARD).exposed_s == 0
    assert time(ParallelSpec(dp=8, zero=Zero.PARAMETERS), passes=Passes.FORWARD).exposed_s > 0


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_recomputing_more_never_takes_less_time(model: ModelSpec) -> None:
    table = many(ep=4 if model.moe else 1)
    found = [
        step_time(sharded_step(model, table._replace(recompute=table.column(level)), SEQ_LEN), RATES).seconds
        for level in Recompute
    ]
    assert np.all(found[0] <= found[1])
    assert np.all(found[1] <= found[2])


def test_zero_3_is_never_faster_than_zero_1_where_gradients_are_accumulated() -> None:
    shared, sharded = (time(ParallelSpec(dp=64, zero=z), batch=512) for z in (Zero.OPTIMISER, Zero.PARAMETERS))
    assert sharded.exposed_s > shared.exposed_s
    assert sharded.compute_s == shared.compute_s


RAISED = (
    "product_flops_per_s",
    "fp8_flops_per_s",
    "attention_flops_per_s",
    "bytes_per_s",
    "fast_bytes_per_s",
    "slow_bytes_per_s",
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(MANY)), st.sampled_from(RAISED), st.floats(1, 1000), st.floats(0.01, 100))
def test_a_better_chip_is_never_slower(model: str, rate: str, times: float, links: float) -> None:
    """For each of about a hundred plans, from networks a hundred times slower than usual to a hundred times faster."""
    start = RATES._replace(
        fast_bytes_per_s=RATES.fast_bytes_per_s * links, slow_bytes_per_s=RATES.slow_bytes_per_s * links
    )
    before = step_time(MANY[model], start).seconds
    after = step_time(MANY[model], start._replace(**{rate: getattr(start, rate) * times})).seconds
    assert np.all(after <= before * (1 + 1e-12))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(MANY)), st.sampled_from(("data_overlap", "tensor_overlap")), st.floats(0, 1))
def test_better_software_is_never_slower(model: str, share: str, value: float) -> None:
    less, more = sorted((value, getattr(RATES, share)))
    before, after = (step_time(MANY[model], RATES._replace(**{share: x})).seconds for x in (less, more))
    assert np.all(after <= before * (1 + 1e-12))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(MANY)), st.floats(0.01, 100))
def test_no_plan_does_more_flops_per_second_than_its_chips_do(model: str, links: float) -> None:
    """However many chips: their seconds together are at least the FLOPs over the fastest of their rates."""
    parts = MANY[model]
    rates = RATES._replace(
        fast_bytes_per_s=RATES.fast_bytes_per_s * links, slow_bytes_per_s=RATES.slow_bytes_per_s * links
    )
    chip_s = step_time(parts, rates).seconds * parts.layouts.n_chips
    assert np.all(chip_s >= executed_flops(parts) / rates.product_flops_per_s)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_more_replicas_of_a_fixed_batch_never_save_chip_seconds(model: ModelSpec) -> None:
    found = [time(ParallelSpec(dp=n), model=model, batch=512).seconds * n for n in (1, 2, 8, 64, 512)]
    assert sorted(found) == found


def test_experts_on_many_ranks_wait_for_the_network() -> None:
    near, far = (time(ParallelSpec(dp=16, ep=ep), model=EXPERTS) for ep in (8, 16))
    assert far.exposed_s > near.exposed_s
    held = [float(sharded_params(EXPERTS, one(ParallelSpec(dp=16, ep=ep))).expert[0]) for ep in (8, 16)]
    assert held[1] == held[0] / 2
