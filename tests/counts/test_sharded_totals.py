"""All chips together execute the model's FLOPs, as another module counts them, whatever the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.sharded import EXPERTS, GPT, LATENT, LLAMA, MODELS, many, one
from twobills.counts.flops import forward_flops, train_flops_per_token
from twobills.counts.layers import attended_per_token, layer_kinds
from twobills.counts.params import count_params
from twobills.counts.sharded_step import Passes, sharded_step
from twobills.counts.sharded_totals import executed_flops, moved_bytes
from twobills.specs import catalog
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import ParallelSpec, Recompute

PUBLISHED = ("llama-2-7b", "llama-3.1-70b", "gemma-3-27b", "falcon-7b", "opt-350m", "mixtral-8x7b", "deepseek-v3")
SEQ_LEN = 2048


def attention_forward(model: ModelSpec, seq_len: int = SEQ_LEN) -> float:
    """FLOPs of one token's attention, forward: what remains of the training FLOPs beside the products, over three."""
    return (train_flops_per_token(model, seq_len) - 6 * count_params(model).matmul_active) / 3


def executed(model: ModelSpec, plan: ParallelSpec, *, global_batch: float = 64, **options: Any) -> float:
    step = sharded_step(model, one(plan, global_batch=global_batch), SEQ_LEN, **options)
    return float(executed_flops(step)[0])


@pytest.mark.parametrize("model", [*MODELS, *map(catalog.model, PUBLISHED)], ids=lambda m: m.name)
@pytest.mark.parametrize(
    "degrees",
    [
        {"dp": 1},
        {"dp": 32, "micro_batch": 2},
        {"dp": 4, "cp": 2, "pp": 4},
        {"dp": 8, "pp": 2, "interleave": 3, "ep": 4},
    ],
)
def test_all_chips_execute_the_models_flops(model: ModelSpec, degrees: Mapping[str, Any]) -> None:
    """The convention's 6 x parameters and 3 x attention; a flash kernel's backward does half a forward more."""
    plan = ParallelSpec(**{**degrees, "ep": degrees.get("ep", 1) if model.moe else 1})
    expected = 64 * SEQ_LEN * (train_flops_per_token(model, SEQ_LEN) + 0.5 * attention_forward(model))
    assert executed(model, plan) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("model", [*MODELS, *map(catalog.model, PUBLISHED)], ids=lambda m: m.name)
def test_tensor_parallel_ranks_execute_twice_only_what_they_cannot_split(model: ModelSpec) -> None:
    """Routers and latent attention's way down, and keys where there are fewer heads than ranks."""
    tp = 8
    if model.n_heads % tp:
        pytest.skip("heads do not divide")
    repeated = sum(
        k.n_layers * p.active_weights * (tp / min(tp, p.max_split) - 1)
        for k in layer_kinds(model)
        for p in k.projections
    )
    once = executed(model, ParallelSpec(dp=4))
    assert executed(model, ParallelSpec(dp=4, tp=tp)) - once == pytest.approx(
        6 * repeated * 64 * SEQ_LEN, abs=1e-6 * once
    )


@pytest.mark.parametrize("model", [LLAMA, GPT, EXPERTS], ids=lambda m: m.name)
def test_full_recomputation_adds_one_forward_of_the_layers(model: ModelSpec) -> None:
    """So 4/3 of the layers' products, and nothing of the head (Korthikanti et al. 2022, section 5)."""
    none, full = (executed(model, ParallelSpec(dp=8, recompute=r)) for r in (Recompute.NONE, Recompute.FULL))
    forward = 2 * count_params(model).active_layer_matmul + attention_forward(model)
    assert full - none == pytest.approx(64 * SEQ_LEN * forward, rel=1e-9)
    selective = executed(model, ParallelSpec(dp=8, recompute=Recompute.SELECTIVE))
    assert selective == none, "what is cheap has no products"


def test_selective_recomputation_expands_latent_vectors_again() -> None:
    """DeepSeek-V3, arXiv:2412.19437, section 3.2.3: norms and the projections up are computed again, not the rest."""
    none, selective = (executed(LATENT, ParallelSpec(dp=8, recompute=r)) for r in (Recompute.NONE, Recompute.SELECTIVE))
    latent = LATENT.latent
    assert latent is not None
    assert latent.q_lora_rank is not None
    up = 512 * LATENT.n_heads * 96 + 256 * LATENT.n_heads * (64 + 64)
    assert selective - none == pytest.approx(2 * LATENT.n_layers * up * 64 * SEQ_LEN, rel=1e-9)


def test_megatrons_formula_of_executed_flops() -> None:
    """Narayanan et al. 2021, eq. 3: 96 B s l h^2 (1 + s/6h + V/16lh), all layers computed again, the square unmasked.

    Products must agree exactly. Attention is 16 B s^2 l h of it: four forwards of 4 s h a token, where a flash
    kernel's causal half does 4.5 of 2 s h.
    """
    batch, s, layers, h, vocab = 64, SEQ_LEN, GPT.n_layers, GPT.d_model, GPT.vocab_size
    published = 96 * batch * s * layers * h**2 * (1 + s / (6 * h) + vocab / (16 * layers * h))
    square = 16 * batch * s**2 * layers * h
    found = executed(GPT, ParallelSpec(dp=8, tp=4, pp=2, recompute=Recompute.FULL))
    assert found - 9 * batch * s**2 * layers * h == pytest.approx(published - square, rel=1e-12)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_a_teacher_goes_forward_only(model: ModelSpec) -> None:
    expected = 64 * SEQ_LEN * (2 * count_params(model).matmul_active + attention_forward(model))
    assert executed(model, ParallelSpec(dp=8), passes=Passes.FORWARD) == pytest.approx(expected, rel=1e-12)
    if model.window is None:
        n_tokens = 64 * SEQ_LEN
        counted = forward_flops(model, n_tokens=n_tokens, n_attended=n_tokens * SEQ_LEN / 2, n_logits=n_tokens)
        assert expected == pytest.approx(counted)
    plan = ParallelSpec(dp=8, recompute=Recompute.FULL)
    assert executed(model, plan, passes=Passes.FORWARD) == pytest.approx(expected), "no backward, nothing again"


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_adapters_save_the_gradients_of_weights(model: ModelSpec) -> None:
    """LoRA: a third of the products' FLOPs, none of attention's, which has no weights."""
    saved = executed(model, ParallelSpec(dp=8)) - executed(model, ParallelSpec(dp=8), passes=Passes.ADAPT, adapted=0.01)
    assert saved == pytest.approx(64 * SEQ_LEN * 2 * count_params(model).matmul_active, rel=1e-9)


@pytest.mark.parametrize("model", [LLAMA, GPT], ids=lambda m: m.name)
def test_every_plan_of_a_table_executes_the_same(model: ModelSpec) -> None:
    table = many()
    step = sharded_step(model, table, SEQ_LEN)
    forward = 2 * count_params(model).active_layer_matmul + attention_forward(model)
    base = train_flops_per_token(model, SEQ_LEN) + 0.5 * attention_forward(model)
    expected = 128 * SEQ_LEN * (base + np.where(table.recompute == Recompute.FULL, forward, 0))
    assert executed_flops(step) == pytest.approx(expected, rel=1e-12)


def test_attention_in_windows_is_charged_for_what_they_hold() -> None:
    """Gemma 3: 52 of 62 layers see 1,024 tokens, of which at 8,192 tokens a token attends to 960 on average."""
    model = catalog.model("gemma-3-27b")
    step = sharded_step(model, one(), 8192)
    found = {
        w.name: float((w.flops / 8192)[0]) for w in step.work if w.name.startswith("attention") and "out" not in w.name
    }
    per_key = 2 * model.n_heads * 2 * model.d_head
    assert sorted(found.values()) == [960 * per_key, 4096 * per_key]
    assert [attended_per_token(kind, 8192) for kind in layer_kinds(model)] == [960, 4096]


def test_streaming_operations_move_as_often_as_the_software_does() -> None:
    step = sharded_step(LLAMA, one(ParallelSpec(dp=4)), SEQ_LEN)
    least, twice = float(moved_bytes(step, 1.0)[0]), float(moved_bytes(step, 2.0)[0])
    products = 4 * sum(float((w.bytes * w.calls)[0]) for w in step.work if w.kind.is_product)
    assert twice - least == pytest.approx(least - products)


def test_every_projection_is_an_operation_of_its_own_name() -> None:
    for model in MODELS:
        names = [w.name for w in sharded_step(model, one(), SEQ_LEN).work]
        assert len(names) == len(set(names))
        wanted = {p.name for kind in layer_kinds(model) for p in kind.projections}
        assert wanted <= {name.partition(" (")[0] for name in names}
