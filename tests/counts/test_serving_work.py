"""Work of a serving step: the general counts of FLOPs again, bytes by hand, and what parallelism divides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.situations import DENSE, MODELS, decoding, reading, situation, step_flops
from twobills.counts.flops import decode_flops, prefill_flops
from twobills.counts.params import count_params
from twobills.counts.serving_step import ServingWork, kv_cache_bytes, serving_step, weights_per_chip
from twobills.specs import catalog
from twobills.specs.model import ModelSpec

PLAIN = [model for model in MODELS if model.latent is None and model.d_embedding is None]
UNCHUNKED = [model for model in PLAIN if model.window is None or not model.window.chunked]


def bytes_of(step: ServingWork, *parts: str) -> float:
    """Bytes of the operations whose names begin so, all calls."""
    return sum(float((work.calls * work.bytes)[0]) for work in step.work if work.name.startswith(parts))


@given(st.sampled_from(UNCHUNKED), st.integers(1, 100_000))
def test_one_tokens_flops_are_those_of_the_general_count(model: ModelSpec, context: int) -> None:
    assert step_flops(decoding(model, 1, context)) == pytest.approx(decode_flops(model, context), rel=1e-9)


@given(st.sampled_from([model for model in MODELS if model.d_embedding is None]), st.integers(1, 100_000))
def test_a_prompts_flops_are_those_of_the_general_count(model: ModelSpec, prompt: int) -> None:
    assert step_flops(reading(model, prompt)) == pytest.approx(prefill_flops(model, prompt), rel=1e-9)


def test_a_latent_token_is_decoded_in_its_absorbed_form() -> None:
    """Each of 128 heads takes scores over 512 + 64 numbers and mixes 512."""
    model = catalog.model("deepseek-v3")
    near, far = decoding(model, 1, 1000), decoding(model, 1, 2000)
    by_hand = 2 * 128 * (576 + 512) * 1000 * 61
    assert step_flops(far) - step_flops(near) == pytest.approx(by_hand)
    assert bytes_of(far, "cache read") - bytes_of(near, "cache read") == pytest.approx(70_272 * 1000)


@pytest.mark.parametrize(
    ("model", "kv_bytes", "per_token"),
    [
        ("deepseek-v3", 2, (512 + 64) * 61 * 2),  # 70,272 (DeepSeek-V3's config; section 1 of DeepSeek's day)
        ("llama-3-70b", 1, 2 * 8 * 128 * 80),  # 163,840: How to Scale Your Model, applied inference
        ("llama-3.1-8b", 2, 131_072),  # vLLM's FP8 KV cache study: slope of 3.91e-5 ms at 3.35 TB/s
    ],
)
def test_cache_bytes_of_a_token_are_the_published_ones(model: str, kv_bytes: float, per_token: int) -> None:
    assert kv_cache_bytes(catalog.model(model), 1000, kv_bytes) == pytest.approx(1000 * per_token)


def test_the_scaling_books_cache_of_a_batch() -> None:
    """Llama 3 70B in int8, batch 32 of 8,192 tokens: KV of 41.9 GB as printed (their 160 kB a token, rounded)."""
    assert 32 * kv_cache_bytes(catalog.model("llama-3-70b"), 8192, 1) == pytest.approx(41.9e9, rel=0.03)


@given(st.sampled_from(DENSE), st.floats(1, 1e5), st.floats(1, 1e5))
def test_windows_cap_the_cache(model: ModelSpec, one: float, other: float) -> None:
    short, long = sorted((one, other))
    assert kv_cache_bytes(model, short, 2) <= kv_cache_bytes(model, long, 2)
    if model.window and model.window.full_every is None and short >= model.window.n_tokens:
        assert kv_cache_bytes(model, short, 2) == kv_cache_bytes(model, long, 2)
        assert step_flops(decoding(model, 1, short)) == step_flops(decoding(model, 1, long))


def test_of_two_kinds_of_layers_only_those_with_windows_are_capped() -> None:
    """Gemma 2 9B: every second of 42 layers sees 4,096 tokens; 2 x 8 heads x 256 x 2 bytes a token and layer."""
    assert kv_cache_bytes(catalog.model("gemma-2-9b"), 8192, 2) == pytest.approx(8192 * (21 * 8192 + 21 * 4096))


@given(st.sampled_from(MODELS), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]), st.floats(0.5, 4))
def test_weights_of_all_chips_are_the_model(model: ModelSpec, tp: int, pp: int, weight_bytes: float) -> None:
    """Tables stay in 16 bits at least."""
    params = count_params(model)
    tables = params.embedding + (0 if model.tied_embeddings else params.head)
    whole = (params.total - tables) * weight_bytes + tables * max(weight_bytes, 2.0)
    s = situation(tp=tp, pp=pp, weight_bytes=weight_bytes)
    assert weights_per_chip(model, s)[0] * tp * pp == pytest.approx(whole, rel=1e-12)


def test_experts_are_shared_out_and_the_rest_is_held_by_every_attention_rank() -> None:
    """DeepSeek-V3 over 144 ranks: 671e9 total of which 58 x 256 x 3 x 7168 x 2048 routed (config.json)."""
    model = catalog.model("deepseek-v3")
    routed = 58 * 256 * 3 * 7168 * 2048
    one, many = (weights_per_chip(model, situation(dp=n, ep=n))[0] for n in (1, 144))
    assert one - many == pytest.approx(2 * routed * (1 - 1 / 144))


@given(st.sampled_from(DENSE), st.sampled_from([1, 2, 4, 8]))
def test_tensor_parallelism_divides_the_work(model: ModelSpec, tp: int) -> None:
    """As far as there are heads: beyond the key-value heads their projections are repeated."""
    alone, shared = decoding(model, 8, 1000), decoding(model, 8, 1000, tp=tp)
    assert step_flops(alone) <= step_flops(shared) * tp * (1 + 1e-9)
    if model.n_kv_heads % tp == 0:
        assert step_flops(shared) == pytest.approx(step_flops(alone) / tp)


MIXED = [model for model in MODELS if model.moe]
INTO = "expert "


@pytest.mark.parametrize("model", MIXED, ids=lambda model: str(model.name))
def test_one_token_reads_exactly_its_own_experts(model: ModelSpec) -> None:
    """No bound is broken at batch 1: what a token is multiplied by was read."""
    assert model.moe
    per_layer = (3 if model.gated_mlp else 2) * model.d_model * model.moe.d_expert
    n_layers = sum((i + 1) % model.moe.every == 0 for i in range(model.moe.n_dense_first, model.n_layers))
    weights = model.moe.n_active_experts * per_layer * n_layers * 2
    assert weights <= bytes_of(decoding(model), INTO) <= weights * 1.02, "beside them only one token's activations"


@given(st.sampled_from(MIXED), st.floats(1, 4000), st.floats(1, 4000))
def test_more_tokens_touch_more_experts_and_at_last_all(model: ModelSpec, one: float, other: float) -> None:
    """1 - (1 - k / E)^n of the experts."""
    assert model.moe
    few, many = (decoding(model, n, weight_bytes=1e6) for n in sorted((one, other)))
    assert bytes_of(few, INTO) <= bytes_of(many, INTO)
    everything = bytes_of(decoding(model, 1e7, weight_bytes=1e12), INTO)
    share = 1 - (1 - model.moe.n_active_experts / model.moe.n_experts) ** one
    touched = bytes_of(decoding(model, one, weight_bytes=1e12), INTO)
    assert touched == pytest.approx(share * everything, rel=1e-3)


@pytest.mark.parametrize(("tp", "dp", "ep"), [(1, 8, 1), (1, 8, 8), (8, 1, 1), (8, 1, 8), (2, 4, 8), (2, 4, 4)])
def test_expert_flops_are_shared_by_all_chips_however_they_are_spread(tp: int, dp: int, ep: int) -> None:
    """Mixtral on 8 chips: eight replicas, one set of experts or any mixture compute each token's experts once."""
    model = catalog.model("mixtral-8x7b")
    step = decoding(model, 64, tp=tp, dp=dp, ep=ep)
    experts = sum(float((work.calls * work.flops)[0]) for work in step.work if work.name.startswith(INTO))
    assert experts * 8 == pytest.approx(64 * 2 * 2 * 3 * 4096 * 14336 * 32)


def test_replicas_send_nothing_to_each_others_experts() -> None:
    model = catalog.model("mixtral-8x7b")
    for ep in (1, 4, 8):
        (sent,) = (each for each in decoding(model, 64, dp=8, ep=ep).transfers if "experts" in each.name)
        assert (sent.group == ep).all(), "a group of one sends nothing"


def test_rows_do_not_see_each_other() -> None:
    model = catalog.model("gpt-oss-20b")
    rows = [situation(n_decode=n, context=c, tp=tp) for n, c, tp in ((1, 100, 1), (64, 5000, 2), (7, 90, 8))]
    together = serving_step(model, type(rows[0])(*(np.concatenate(column) for column in zip(*rows, strict=True))))
    alone = [step_flops(serving_step(model, row)) for row in rows]
    assert sum(work.calls * work.flops for work in together.work) == pytest.approx(alone)
