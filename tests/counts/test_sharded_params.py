"""What each chip holds: all chips together hold the model, as often as there are copies."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sharded import BRIDGED, EXPERTS, GPT, LATENT, LLAMA, MODELS, PARALLEL_BLOCK, WINDOWED, one
from twobills.counts.layers import SplitBy, layer_kinds
from twobills.counts.params import count_params
from twobills.counts.sharded_params import layers_of_fullest_stage, sharded_params
from twobills.specs import catalog
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import ParallelSpec, Zero


def small_outside_layers(model: ModelSpec) -> int:
    return count_params(model).small - sum(kind.n_layers * kind.small_params for kind in layer_kinds(model))


@pytest.mark.parametrize("model", [*MODELS, *catalog.models().values()], ids=lambda m: m.name)
def test_one_chip_holds_the_whole_model(model: ModelSpec) -> None:
    held = float(sharded_params(model, one()).held[0])
    assert held == pytest.approx(count_params(model).total - small_outside_layers(model), rel=1e-12)


@pytest.mark.parametrize("model", [LLAMA, GPT, PARALLEL_BLOCK, WINDOWED, EXPERTS], ids=lambda m: m.name)
def test_tensor_and_expert_parallel_ranks_hold_the_model_between_them(model: ModelSpec) -> None:
    """What no rank splits (norms, routers, biases) is held by each; all else once."""
    tp, ep = 4, 8
    params = sharded_params(model, one(ParallelSpec(dp=ep, tp=tp, ep=ep if model.moe else 1)))
    whole = sum(
        k.n_layers * (k.small_params + sum(p.weights for p in k.projections if p.split_by is SplitBy.NONE))
        for k in layer_kinds(model)
    )
    together = float(params.dense[0]) * tp + float(params.expert[0]) * tp * ep
    expected = count_params(model).total - small_outside_layers(model) + (tp - 1) * whole
    assert together == pytest.approx(expected, rel=1e-12)


def test_a_key_head_is_held_by_several_ranks_where_there_are_fewer_heads_than_ranks() -> None:
    """16 ranks share 8 key-value heads: each holds a whole one, so that together they hold them twice."""
    narrow = float(sharded_params(LLAMA, one(ParallelSpec(dp=1, tp=16))).dense[0]) * 16
    wide = float(sharded_params(LLAMA, one(ParallelSpec(dp=1, tp=8))).dense[0]) * 8
    (kind,) = layer_kinds(LLAMA)
    key_value = 2 * LLAMA.n_kv_heads * LLAMA.d_head * LLAMA.d_model
    assert narrow - wide == pytest.approx(LLAMA.n_layers * (key_value + 8 * kind.small_params), rel=1e-9)


@pytest.mark.parametrize("pp", [2, 4, 8])
def test_stages_share_out_the_layers_and_the_fullest_has_one_table(pp: int) -> None:
    params = count_params(LLAMA)
    stage = float(sharded_params(LLAMA, one(ParallelSpec(dp=1, pp=pp))).held[0])
    layers = params.total - params.embedding - params.head - small_outside_layers(LLAMA)
    assert stage == pytest.approx(layers / pp + max(params.embedding, params.head), rel=1e-12)


def test_tied_tables_are_held_once_on_one_stage() -> None:
    assert GPT.tied_embeddings
    (kind,) = layer_kinds(GPT)
    alone = float(sharded_params(GPT, one()).held[0])
    assert alone == GPT.n_layers * (kind.weights + kind.small_params) + count_params(GPT).embedding


def test_ranks_that_share_out_the_optimiser_update_each_parameter_once() -> None:
    """Experts have fewer copies, so fewer ranks to share them out among: dp / ep."""
    for model, ep in ((LLAMA, 1), (EXPERTS, 8), (LATENT, 16)):
        for zero in (Zero.OPTIMISER, Zero.GRADIENTS, Zero.PARAMETERS):
            spread = sharded_params(model, one(ParallelSpec(dp=32, ep=ep, zero=zero)))
            assert float(spread.updated[0]) * 32 == pytest.approx(
                float(sharded_params(model, one()).held[0]), rel=1e-12
            )


def test_without_zero_every_rank_updates_all_that_it_holds() -> None:
    params = sharded_params(EXPERTS, one(ParallelSpec(dp=32, ep=8, zero=Zero.NOTHING)))
    assert np.array_equal(params.updated, params.held)


def test_a_shard_of_some_ranks_leaves_copies_that_all_update() -> None:
    """HSDP: 4 of 32 ranks share out a copy, so there are 8 copies."""
    params = sharded_params(LLAMA, one(ParallelSpec(dp=32, zero=Zero.PARAMETERS, shard=4)))
    assert float(params.updated[0]) * 4 == pytest.approx(float(params.held[0]))


@pytest.mark.parametrize(
    ("n_layers", "pp", "interleave", "fullest"),
    [(126, 16, 1, 8), (126, 1, 1, 126), (96, 8, 3, 12), (105, 35, 3, 3), (80, 8, 1, 10), (61, 16, 1, 4), (5, 4, 2, 2)],
)
def test_layers_of_the_fullest_stage(n_layers: int, pp: int, interleave: int, fullest: int) -> None:
    """Llama 3.1 405B's 126 layers, Korthikanti et al.'s 96 and 105 (table 3), DeepSeek-V3's 61 on their stages."""
    layouts = one(ParallelSpec(dp=1, pp=pp, interleave=interleave))
    assert float(layers_of_fullest_stage(n_layers, layouts)[0]) == fullest


def test_the_widest_kind_of_layer_is_what_sharded_weights_are_gathered_into() -> None:
    _, sparse = layer_kinds(EXPERTS)
    assert float(sharded_params(EXPERTS, one()).layer[0]) == sparse.weights + sparse.small_params
    assert float(sharded_params(BRIDGED, one()).layer[0]) == layer_kinds(BRIDGED)[0].weights + (
        layer_kinds(BRIDGED)[0].small_params
    )
