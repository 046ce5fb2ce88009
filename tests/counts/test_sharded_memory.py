"""What a chip holds, against the papers' formulas and tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.sharded import EXPERTS, GPT, LATENT, LLAMA, MODELS, many, one
from twobills.counts.layers import layer_kinds
from twobills.counts.layouts import layouts_of
from twobills.counts.params import count_params
from twobills.counts.sharded_memory import GATHERED_LAYERS, ShardedMemory, activation_bytes_per_token, sharded_memory
from twobills.counts.sharded_params import sharded_params
from twobills.counts.sharded_step import Passes
from twobills.specs import catalog
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import ParallelSpec, Recompute, Zero

SEQ_LEN = 2048


def memory(
    model: ModelSpec, plan: ParallelSpec, *, seq_len: int = SEQ_LEN, global_batch: float = 1024
) -> ShardedMemory:
    return sharded_memory(model, one(plan, global_batch=global_batch), seq_len)


def degrees(name: str, n: int) -> dict[str, Any]:
    return {name: n}


def states_gb(zero: Zero) -> float:
    """ZeRO's table 1 has 7.5B parameters on 64 ranks, and gradients in 16 bits where ours are in 32."""
    plan = ParallelSpec(dp=64, zero=zero)
    found, params = memory(LLAMA, plan), sharded_params(LLAMA, one(plan))
    gathered = GATHERED_LAYERS * float(params.layer[0]) * 2 if zero is Zero.PARAMETERS else 0
    n_bytes = float((found.weights + found.gradients / 2 + found.optimiser)[0]) - gathered
    return n_bytes / float(params.held[0]) * 7.5


@pytest.mark.parametrize(
    ("zero", "published_gb"),
    [(Zero.NOTHING, 120), (Zero.OPTIMISER, 31.4), (Zero.GRADIENTS, 16.6), (Zero.PARAMETERS, 1.88)],
)
def test_zeros_table(zero: Zero, published_gb: float) -> None:
    """Rajbhandari et al. 2020, table 1, row 64, columns of 7.5B (the first is figure 1's 120 GB), as printed."""
    assert states_gb(zero) == pytest.approx(published_gb, rel=4e-3)


@pytest.mark.parametrize("dp", [1, 8, 64])
def test_megatrons_distributed_optimiser(dp: int) -> None:
    """Megatron-LM's documentation: bf16 parameters with fp32 gradients take 18 bytes, 6 + 12/d when distributed."""
    n = count_params(LLAMA).total - LLAMA.d_model
    plain, shared = (memory(LLAMA, ParallelSpec(dp=dp, zero=z)) for z in (Zero.NOTHING, Zero.OPTIMISER))
    assert float((plain.weights + plain.gradients + plain.optimiser)[0]) == pytest.approx(18 * n)
    assert float((shared.weights + shared.gradients + shared.optimiser)[0]) == pytest.approx((6 + 12 / dp) * n)


@pytest.mark.parametrize("tp", [1, 2, 8])
def test_korthikantis_activations_of_one_layer(tp: int) -> None:
    """Table 2, last rows: 34 sbh/t with sequence parallelism and selective recomputation, 2 sbh with full.

    Two of the 34 are dropout masks, which are left out. What they call selective (the square is not kept) is what a
    flash kernel always does: our NONE. Their 2 sbh is not split over ranks; with sequence parallelism it is.
    """
    s, b, h, layers = SEQ_LEN, 4, GPT.d_model, GPT.n_layers
    none, full = (
        memory(GPT, ParallelSpec(dp=1, tp=tp, micro_batch=b, recompute=r)) for r in (Recompute.NONE, Recompute.FULL)
    )
    assert float(none.activations[0]) == pytest.approx((34 - 2) * s * b * h * layers / tp)
    recomputed = (34 - 2 - 2) * s * b * h / tp
    assert float(full.activations[0]) == pytest.approx(2 * s * b * h * layers / tp + recomputed)


def test_korthikantis_square() -> None:
    """Equation 1: 5 a s^2 b more in each layer without a flash kernel or recomputation; table 2: divided by t."""
    layouts = layouts_of([ParallelSpec(dp=1, tp=4, micro_batch=2)], global_batch=16, fp8=False)
    flash, square = (sharded_memory(GPT, layouts, SEQ_LEN, square=q) for q in (False, True))
    more = float((square.activations - flash.activations)[0])
    assert more == pytest.approx(5 * GPT.n_heads * SEQ_LEN**2 * 2 * GPT.n_layers / 4)


@pytest.mark.parametrize(("pp", "interleave", "factor"), [(8, 1, 1.0), (8, 3, 1 + 7 / 24), (4, 4, 1 + 3 / 16)])
def test_korthikantis_first_stage(pp: int, interleave: int, factor: float) -> None:
    """Section 4.2.3: the first stage holds all L layers' worth, times 1 + (p - 1)/(pm) with m interleaved pieces."""
    model = replace(GPT, n_layers=48)
    found = memory(model, ParallelSpec(dp=1, tp=8, pp=pp, interleave=interleave))
    assert float(found.activations[0]) == pytest.approx(32 * SEQ_LEN * model.d_model * 48 / 8 * factor)


def test_gpt_3_in_megatrons_setting_holds_13_gb_of_activations() -> None:
    """Korthikanti et al., table 3: 175B on t=8, p=8, m=3, micro-batch 1: 34 s b h L / t x (1 + 7/24) = 13.3 GB."""
    found = memory(catalog.model("gpt3-175b"), ParallelSpec(dp=1, tp=8, pp=8, interleave=3), global_batch=64)
    assert float(found.activations[0]) == pytest.approx(34 * 2048 * 12288 * 96 / 8 * (1 + 7 / 24), rel=0.06)


def test_fewer_micro_batches_than_stages_are_all_that_is_in_flight() -> None:
    plan = ParallelSpec(dp=1, pp=8)
    few, many_ = (float(memory(LLAMA, plan, global_batch=n).activations[0]) for n in (2, 64))
    assert many_ == pytest.approx(4 * few)


def test_gated_layers_keep_three_widths_and_plain_ones_two() -> None:
    (gated,), (plain,) = layer_kinds(LLAMA), layer_kinds(GPT)
    saved = activation_bytes_per_token(LLAMA, gated, Recompute.NONE)
    attention = LLAMA.n_heads * 64 * 2 + LLAMA.n_kv_heads * 64 * 2
    assert saved == 2 * (4 * LLAMA.d_model + attention + 3 * LLAMA.d_ff)
    assert activation_bytes_per_token(GPT, plain, Recompute.NONE) == 2 * (4 * GPT.d_model + 4 * 1024 + 2 * GPT.d_ff)


def test_a_layer_of_experts_also_keeps_each_experts_inputs() -> None:
    """Two routed and one shared expert of 1408, and a token's copy for each routed one."""
    dense, sparse = layer_kinds(EXPERTS)
    more = activation_bytes_per_token(EXPERTS, sparse, Recompute.NONE) - activation_bytes_per_token(
        EXPERTS, dense, Recompute.NONE
    )
    assert more == 2 * (3 * (3 * 1408 - EXPERTS.d_ff) + 2 * EXPERTS.d_model)


def test_selective_recomputation_keeps_latent_vectors_in_place_of_keys_and_values() -> None:
    """DeepSeek-V3, section 3.2.3. Where queries are not compressed (V2-Lite) they are kept."""
    kind = layer_kinds(LATENT)[0]
    straight = replace(LATENT, latent=replace(LATENT.latent, q_lora_rank=None))  # type: ignore[type-var]
    straight_kind = layer_kinds(straight)[0]
    compressed = activation_bytes_per_token(LATENT, kind, Recompute.SELECTIVE)
    uncompressed = activation_bytes_per_token(straight, straight_kind, Recompute.SELECTIVE)
    assert uncompressed - compressed == 2 * (LATENT.n_heads * LATENT.d_head - 512)
    values = LATENT.n_heads * 64
    assert compressed == 2 * (2 * LATENT.d_model + 512 + 256 + values + 2 * kind.d_ff)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
@pytest.mark.parametrize("fp8", [False, True])
def test_what_is_recomputed_is_not_kept(model: ModelSpec, fp8: bool) -> None:
    """Full <= selective <= none, for every plan; strictly where a stage has more than one layer."""
    table = many(fp8=fp8)
    held = [
        sharded_memory(model, table._replace(recompute=table.column(level)), SEQ_LEN).activations
        for level in (Recompute.FULL, Recompute.SELECTIVE, Recompute.NONE)
    ]
    assert np.all(held[0] < held[1])
    assert np.all(held[1] < held[2])


@pytest.mark.parametrize("level", Recompute)
def test_a_stage_of_one_layer_gains_nothing_from_recomputing_it(level: Recompute) -> None:
    one_layer = replace(LLAMA, n_layers=1)
    kept = memory(one_layer, ParallelSpec(dp=1, recompute=Recompute.NONE)).activations
    assert memory(one_layer, ParallelSpec(dp=1, recompute=level)).activations == pytest.approx(kept)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_each_stage_of_zero_holds_less(model: ModelSpec) -> None:
    """ZeRO-3 <= ZeRO-2 <= ZeRO-1 <= ZeRO-0: on 64 ranks, of which two layers gathered are a small part."""
    found = [float(memory(model, ParallelSpec(dp=64, zero=zero)).total[0]) for zero in Zero]
    assert sorted(found, reverse=True) == found
    assert len(set(found)) == 4


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_more_ranks_never_hold_more(model: ModelSpec) -> None:
    for degree in ("dp", "tp", "cp"):
        for zero in Zero:
            found = [
                float(memory(model, replace(ParallelSpec(dp=1, zero=zero), **degrees(degree, n))).total[0])
                for n in (1, 2, 4, 8)
            ]
            assert sorted(found, reverse=True) == found, (degree, zero)


def test_twice_the_micro_batch_is_twice_the_activations_and_not_the_states() -> None:
    small, large = (memory(LLAMA, ParallelSpec(dp=2, micro_batch=b)) for b in (2, 4))
    assert float(large.activations[0]) == 2 * float(small.activations[0])
    assert float(large.logits[0]) == 2 * float(small.logits[0])
    assert large[:3] == small[:3]


def test_experts_spread_over_ranks_are_shared_out_among_fewer_of_them() -> None:
    """However they are spread: with ZeRO-3 over everybody each rank keeps 1/64 of everything."""
    table = layouts_of(
        [ParallelSpec(dp=64, ep=ep, zero=Zero.PARAMETERS) for ep in (1, 4, 16)], global_batch=64, fp8=False
    )
    found = sharded_memory(EXPERTS, table, SEQ_LEN)
    assert np.allclose(found.gradients, found.gradients[0])
    assert np.allclose(found.optimiser, found.optimiser[0])
    assert np.all(np.diff(found.weights) < 0), "what is gathered of a layer is less"


def test_adapters_have_gradients_and_moments_of_their_own_only() -> None:
    layouts = one(ParallelSpec(dp=1, zero=Zero.NOTHING))
    full = sharded_memory(LLAMA, layouts, SEQ_LEN)
    adapted = sharded_memory(LLAMA, layouts, SEQ_LEN, passes=Passes.ADAPT, adapted=0.01)
    assert adapted.weights == full.weights
    assert adapted.gradients == pytest.approx(full.gradients * 0.01)
    assert adapted.optimiser == pytest.approx(full.optimiser * 0.01)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_a_forward_pass_holds_weights_and_one_layers_activations(model: ModelSpec) -> None:
    table = many()
    forward, train = (sharded_memory(model, table, SEQ_LEN, passes=p) for p in (Passes.FORWARD, Passes.TRAIN))
    assert np.array_equal(forward.weights, train.weights)
    assert not forward.gradients.any()
    assert not forward.optimiser.any()
    assert np.all(forward.activations <= train.activations)


def test_logits_are_held_in_both_precisions_and_split_over_ranks() -> None:
    """Korthikanti et al., section 4.3: 4 s b v / t for the loss's fp32 logits; the product wrote 16 bits before."""
    for tp in (1, 4):
        found = memory(GPT, ParallelSpec(dp=1, tp=tp, micro_batch=2))
        assert float(found.logits[0]) == (4 + 2) * SEQ_LEN * 2 * GPT.vocab_size / tp
