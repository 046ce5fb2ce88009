"""What is sent, against the volumes that papers state; what is done, operation by operation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.sharded import EXPERTS, GPT, LATENT, LLAMA, MODELS, PARALLEL_BLOCK, many, one
from twobills.counts.layers import layer_kinds
from twobills.counts.layouts import Layouts
from twobills.counts.sharded_params import sharded_params
from twobills.counts.sharded_step import Passes, Pattern, StepWork, Transfer, sharded_step
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import ParallelSpec, Recompute, Zero

SEQ_LEN = 2048


def step(
    model: ModelSpec, plan: ParallelSpec, *, global_batch: float = 64, fp8: bool = False, passes: Passes = Passes.TRAIN
) -> StepWork:
    return sharded_step(model, one(plan, global_batch=global_batch, fp8=fp8), SEQ_LEN, passes=passes)


def moved(parts: StepWork, named: str, *, bytes_per_number: float = 1) -> float:
    """Sum over the transfers with this in their name; an all-reduce moves its buffer twice."""
    return sum(
        float((t.bytes * t.calls)[0]) * (2 if t.pattern is Pattern.ALL_REDUCE else 1) / bytes_per_number
        for t in parts.transfers
        if named in t.name
    )


def sent(table: Layouts, transfer: Transfer) -> np.ndarray:
    return np.where(np.broadcast_to(transfer.group, table.dp.shape) > 1, transfer.bytes * transfer.calls, 0)


def test_one_chip_sends_nothing() -> None:
    for model in MODELS:
        for zero in Zero:
            layouts = one(ParallelSpec(dp=1, zero=zero), global_batch=4)
            parts = sharded_step(model, layouts, SEQ_LEN)
            assert all(not sent(layouts, t).any() for t in parts.transfers)


def test_only_what_is_split_is_sent() -> None:
    for model in MODELS:
        table = many()
        for t in sharded_step(model, table, SEQ_LEN).transfers:
            if "tensor-parallel" in t.name:
                assert not sent(table, t)[table.tp == 1].any()
                assert sent(table, t)[table.tp > 1].all()
            if "pipeline" in t.name:
                assert not sent(table, t)[table.pp == 1].any()
                assert sent(table, t)[table.pp > 1].all()
            if "context-parallel" in t.name:
                assert not sent(table, t)[table.cp == 1].any()
                assert sent(table, t)[table.cp > 1].all()


@pytest.mark.parametrize(("zero", "volumes"), [(0, 2), (1, 2), (2, 2), (3, 3)])
def test_zeros_volumes(zero: int, volumes: int) -> None:
    """Rajbhandari et al. 2020, section 7: 2 x parameters per step, as plain data parallelism; stage 3 has 3 x.

    In numbers, not bytes: weights move in 16 bits, gradients once a step in 32.
    """
    parts = step(LLAMA, ParallelSpec(dp=64, zero=Zero(zero)))
    numbers = sum(
        moved(parts, name, bytes_per_number=size)
        for name, size in {
            "weights gathered": 2,
            "gradients scattered": 2 if zero == 3 else 4,
            "gradients summed": 4,
        }.items()
    )
    assert numbers == pytest.approx(volumes * float(sharded_params(LLAMA, one()).held[0]), rel=1e-12)


def test_what_is_accumulated_is_sent_once_but_not_with_sharded_gradients() -> None:
    """ZeRO-2 and -3 hold a part of the gradients only, so that each micro-batch's must be scattered."""
    for zero, often in ((Zero.NOTHING, 1), (Zero.OPTIMISER, 1), (Zero.GRADIENTS, 4), (Zero.PARAMETERS, 4)):
        one_batch, four = (step(LLAMA, ParallelSpec(dp=16, zero=zero), global_batch=16 * n) for n in (1, 4))
        assert moved(four, "gradients") == often * moved(one_batch, "gradients")


def test_copies_of_a_shard_sum_their_gradients() -> None:
    """HSDP on 64 ranks in shards of 8: an eighth of the gradients, in fp32, around 8 copies."""
    parts = step(LLAMA, ParallelSpec(dp=64, zero=Zero.PARAMETERS, shard=8))
    (between,) = [t for t in parts.transfers if "over copies" in t.name]
    assert (float(between.group[0]), float(between.stride[0]), between.pattern) == (8, 8, Pattern.ALL_REDUCE)
    assert float(between.bytes[0]) == pytest.approx(4 * float(sharded_params(LLAMA, one()).held[0]) / 8)


def test_experts_gradients_go_around_the_ranks_that_hold_the_same_ones() -> None:
    parts = step(EXPERTS, ParallelSpec(dp=64, tp=2, ep=8))
    (scattered,) = [t for t in parts.transfers if t.name == "gradients scattered, fp32 of experts"]
    assert (float(scattered.group[0]), float(scattered.stride[0])) == (8, 16)
    held = sharded_params(EXPERTS, one(ParallelSpec(dp=64, tp=2, ep=8))).expert
    assert float(scattered.bytes[0]) == pytest.approx(4 * float(held[0]))


@pytest.mark.parametrize("tp", [2, 8])
def test_megatrons_tensor_parallel_volume(tp: int) -> None:
    """Narayanan et al. 2021, section 3.2: 8 b s h (t - 1)/t numbers per layer and micro-batch, both ways."""
    b, h = 4, GPT.d_model
    parts = step(GPT, ParallelSpec(dp=2, tp=tp, micro_batch=b))
    (between,) = [t for t in parts.transfers if "tensor-parallel" in t.name]
    per_layer = float((between.bytes * between.calls)[0]) / 2 / GPT.n_layers
    assert (between.pattern, float(between.group[0]), float(between.stride[0])) == (Pattern.GATHER, tp, 1)
    assert per_layer * (tp - 1) / tp == pytest.approx(8 * b * SEQ_LEN * h * (tp - 1) / tp)


def test_full_recomputation_sends_a_forward_more_and_parallel_blocks_half() -> None:
    plan = ParallelSpec(dp=2, tp=4)
    base = moved(step(GPT, plan), "tensor-parallel")
    assert moved(step(GPT, replace(plan, recompute=Recompute.FULL)), "tensor-parallel") == 1.5 * base
    assert moved(step(GPT, replace(plan, recompute=Recompute.SELECTIVE)), "tensor-parallel") == base
    assert moved(step(PARALLEL_BLOCK, plan), "tensor-parallel") == base / 2


def test_megatrons_pipeline_volume() -> None:
    """Narayanan et al. 2021, sections 3.2 and 4.1: b s h / t numbers each way per micro-batch, times v."""
    b, tp = 2, 4
    for interleave in (1, 2):
        parts = step(GPT, ParallelSpec(dp=1, tp=tp, pp=4, interleave=interleave, micro_batch=b))
        per_micro = moved(parts, "pipeline", bytes_per_number=2) / (64 / b)
        assert per_micro == 2 * interleave * b * SEQ_LEN * GPT.d_model / tp


def test_context_parallel_ranks_gather_keys_and_values_and_scatter_their_gradients() -> None:
    """Llama 3, arXiv:2407.21783, section 3.3.2: keys and values are all-gathered, before the scores are computed."""
    parts = step(LLAMA, ParallelSpec(dp=2, cp=4, tp=2))
    (between,) = [t for t in parts.transfers if "context-parallel" in t.name]
    whole_sequence = SEQ_LEN * LLAMA.n_kv_heads / 2 * LLAMA.d_head * 2 * 2
    assert float(between.bytes[0]) == whole_sequence
    assert float(between.calls[0]) == 3 * LLAMA.n_layers
    assert (float(between.group[0]), float(between.stride[0])) == (4, 2)


def test_tokens_go_to_their_experts_and_come_back() -> None:
    """Out and back, forward and backward, in 14 of 16 layers; with fp8 products they go out in half the bytes."""
    plan = ParallelSpec(dp=8, tp=2, ep=8)
    (there,) = [t for t in step(EXPERTS, plan).transfers if t.pattern is Pattern.ALL_TO_ALL]
    assert float(there.bytes[0]) == SEQ_LEN * EXPERTS.d_model * 2 / 2
    assert (there.copies, float(there.group[0]), float(there.stride[0])) == (2, 8, 2)
    assert float(there.calls[0]) == 14 * 4
    (narrow,) = [t for t in step(EXPERTS, plan, fp8=True).transfers if t.pattern is Pattern.ALL_TO_ALL]
    assert float(narrow.bytes[0]) == 0.75 * float(there.bytes[0])


def test_a_forward_pass_neither_updates_nor_sends_gradients() -> None:
    for zero in Zero:
        parts = step(LLAMA, ParallelSpec(dp=16, zero=zero), passes=Passes.FORWARD)
        assert moved(parts, "gradients") == moved(parts, "new weights") == 0
        assert (moved(parts, "weights gathered") > 0) == (zero is Zero.PARAMETERS)
        assert not [w for w in parts.work if w.name == "update"]


def test_adapters_send_gradients_of_their_own_only() -> None:
    layouts = one(ParallelSpec(dp=16), global_batch=64)
    full = sharded_step(LLAMA, layouts, SEQ_LEN)
    adapted = sharded_step(LLAMA, layouts, SEQ_LEN, passes=Passes.ADAPT, adapted=0.01)
    for name in ("gradients", "new weights"):
        assert moved(adapted, name) == pytest.approx(0.01 * moved(full, name))
    (update,), (small,) = ([w for w in parts.work if w.name == "update"] for parts in (full, adapted))
    assert small.bytes == pytest.approx(0.01 * update.bytes)


def test_adamw_moves_thirty_bytes_a_parameter() -> None:
    """Master and two moments read and written (24), the gradient read (4), the working weight written (2)."""
    (update,) = [w for w in step(GPT, ParallelSpec(dp=1)).work if w.name == "update"]
    assert float(update.bytes[0]) == 30 * float(sharded_params(GPT, one()).held[0])


def test_streaming_operations_read_each_input_once_and_write_each_output_once() -> None:
    """Numbers of one token, forward, in 16 bits: norm in and out; two sums of two; up, gate and product."""
    found = {
        w.name: float(w.bytes[0]) / SEQ_LEN / 2 for w in step(LLAMA, ParallelSpec(dp=1)).work if not w.kind.is_product
    }
    d, d_ff = LLAMA.d_model, LLAMA.d_ff
    assert found["norms"] == 2 * 2 * d
    assert found["residuals"] == 2 * 3 * d
    assert found["activation"] == 3 * d_ff
    assert found["embedding"] == 2 * d


def test_selective_recomputation_repeats_what_is_cheap() -> None:
    none, selective, full = (step(LLAMA, ParallelSpec(dp=1, recompute=r)) for r in Recompute)
    for before, some, all_again in zip(none.work, selective.work, full.work, strict=True):
        again = {"norms": (3, 4, 4), "heads and positions": (3, 4, 4), "activation": (3, 4, 4), "residuals": (3, 3, 4)}
        if before.name in again:
            calls = tuple(float(w.calls[0]) / LLAMA.n_layers for w in (before, some, all_again))
            assert calls == again[before.name]


def test_products_that_engines_leave_in_16_bits_stay_there() -> None:
    """DeepSeek-V3, section 3.3.1: head, gates, norms and attention are not in fp8. Nor what no rank splits."""
    parts = step(LATENT, ParallelSpec(dp=1), fp8=True)
    wide = {w.name.partition(" (")[0] for w in parts.work if w.kind.is_product and not w.fp8.any()}
    assert wide == {"query down", "latent down", "router", "attention", "output head"}
    assert any(w.name == "casts to fp8" for w in parts.work)
    assert not any("casts" in w.name for w in step(LATENT, ParallelSpec(dp=1)).work)


def test_experts_of_one_rank_see_all_ranks_tokens_of_theirs() -> None:
    """Twice the expert parallelism, half the experts on a rank, each with twice the tokens."""
    narrow, wide = (step(EXPERTS, ParallelSpec(dp=16, ep=ep)) for ep in (4, 8))
    for before, after in zip(narrow.work, wide.work, strict=True):
        if before.name.startswith("expert "):
            assert after.flops == pytest.approx(2 * before.flops)
            assert after.calls == pytest.approx(before.calls / 2)


def test_without_a_flash_kernel_the_square_goes_through_memory() -> None:
    layouts = one(ParallelSpec(dp=1, tp=4))
    flash, early = (sharded_step(GPT, layouts, SEQ_LEN, square=q) for q in (False, True))
    (square,) = [w for w in early.work if w.name not in {f.name for f in flash.work}]
    assert float(square.bytes[0]) == 6 * 2 * SEQ_LEN**2 * GPT.n_heads / 4
    recomputed = sharded_step(GPT, one(ParallelSpec(dp=1, tp=4, recompute=Recompute.SELECTIVE)), SEQ_LEN, square=True)
    (again,) = [w for w in recomputed.work if w.name == square.name]
    assert float((again.calls - square.calls)[0]) == GPT.n_layers


def test_models_of_several_kinds_of_layers_name_them_apart() -> None:
    parts = step(EXPERTS, ParallelSpec(dp=8, ep=8))
    assert len(layer_kinds(EXPERTS)) == 2
    for names in ([w.name for w in parts.work], [t.name for t in parts.transfers]):
        assert len(names) == len(set(names))


def test_the_loss_reads_and_writes_each_logit_so_many_times() -> None:
    """To fp32 (2 + 4 bytes), sum of exponentials (4), gradient from it (4 + 4), to 16 bits and away (2): 20 in all."""
    layouts = one(ParallelSpec(dp=1, tp=4))
    (loss,) = [w for w in sharded_step(GPT, layouts, SEQ_LEN).work if w.name == "cross-entropy"]
    assert float((loss.bytes * loss.calls)[0]) == 20 * SEQ_LEN * GPT.vocab_size / 4


def test_casts_read_each_operand_and_write_it_both_ways_round() -> None:
    """2 bytes read, 1 and its transpose written; inputs and gradients of every product, and its weights."""
    parts = step(LLAMA, ParallelSpec(dp=1), fp8=True)
    (casts,) = [w for w in parts.work if w.name == "casts to fp8"]
    (kind,) = layer_kinds(LLAMA)
    operands = sum(SEQ_LEN * (p.rows + p.columns) + p.weights for p in kind.projections)
    assert float((casts.bytes * casts.calls)[0]) == (2 + 1 + 1) * operands * LLAMA.n_layers
