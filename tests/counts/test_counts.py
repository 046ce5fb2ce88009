from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.counts.flops import (
    decode_flops,
    executed_train_flops,
    forward_flops,
    prefill_flops,
    train_flops_per_token,
)
from twobills.counts.layers import layer_kinds
from twobills.counts.memory import (
    SQUARE_BLOCKS,
    kv_bytes,
    kv_bytes_per_token,
    multiplied_keys,
    weight_bytes,
)
from twobills.counts.operations import (
    engine_step_operations,
    evaluate_operations,
    total_bytes,
    total_flops,
)
from twobills.counts.params import count_params
from twobills.counts.trained_step import train_step_operations
from twobills.errors import SpecError
from twobills.specs import catalog
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec

MODELS = catalog.models()


def test_training_flops_are_six_per_matmul_parameter_and_causal_attention() -> None:
    model = MODELS["llama-2-7b"]
    expected = 6 * count_params(model).matmul + 6 * 32 * 32 * 128 * 4096
    assert train_flops_per_token(model, 4096) == expected


def test_executed_attention_is_twice_the_causal_half() -> None:
    model = MODELS["smollm2-135m"]
    executed = executed_train_flops(model, batch_size=2, seq_len=512) / (2 * 512)
    attention = 12 * model.n_layers * model.n_heads * model.d_head * 512
    assert executed == 6 * count_params(model).matmul + attention


def test_a_mixture_of_experts_trains_its_active_parameters() -> None:
    """Mixtral: 6 for each parameter that a token is multiplied by, attention as in a dense model."""
    model = MODELS["mixtral-8x7b"]
    expected = 6 * count_params(model).matmul_active + 6 * 32 * 32 * 128 * 4096
    assert train_flops_per_token(model, 4096) == expected


def test_latent_attention_multiplies_keys_and_values_of_different_widths() -> None:
    """DeepSeek-V3: 61 layers, 128 heads, keys of 192 and values of 128 features, half a square."""
    model = MODELS["deepseek-v3"]
    attention = train_flops_per_token(model, 4096) - 6 * count_params(model).matmul_active
    assert attention == 3 * 2 * 61 * 128 * (192 + 128) * 4096 / 2


@pytest.mark.parametrize(("name", "gflops"), [("deepseek-v3", 250), ("deepseek-v2", 155)])
def test_training_flops_are_those_that_deepseek_states(name: str, gflops: int) -> None:
    """To the GFLOP per token of a 4096-token sequence. DeepSeek-AI 2025, arXiv:2505.09343, Table 2 (recalled)."""
    assert round(train_flops_per_token(MODELS[name], 4096) / 1e9) == gflops


def test_windows_save_flops() -> None:
    """gpt-oss at 8192 tokens: in 18 of 36 layers 128 keys instead of 4096, less the start of the sequence."""
    model = MODELS["gpt-oss-120b"]
    saved = train_flops_per_token(replace(model, window=None), 8192) - train_flops_per_token(model, 8192)
    assert saved == pytest.approx(3 * 18 * 4 * 64 * 64 * (4096 - 128 + 128**2 / 2 / 8192))


@given(st.sampled_from(sorted(MODELS)), st.integers(1, 400))
def test_a_prompt_and_its_last_token_cost_what_passes_over_each_token_do(name: str, prompt_len: int) -> None:
    """Reading a prompt is every token's decode pass but the logits, up to half of each token's own key."""
    model = MODELS[name]
    head = 2 * count_params(model).head
    passes = sum(decode_flops(model, i + 1) - head for i in range(prompt_len)) + head
    own_keys = sum(k.n_layers * k.attention_flops_per_key for k in layer_kinds(model)) * prompt_len
    assert passes - own_keys / 2 <= prefill_flops(model, prompt_len) * (1 + 1e-12)
    assert prefill_flops(model, prompt_len) <= passes * (1 + 1e-12)


def test_a_sequence_longer_than_the_model_is_refused() -> None:
    with pytest.raises(SpecError, match="seq_len=9000: must be between 1 and max_seq_len=8192"):
        train_flops_per_token(MODELS["smollm2-135m"], 9000)


def test_bytes_at_rest_of_llama_3_8b() -> None:
    model = MODELS["llama-3.1-8b"]
    assert weight_bytes(model, DType.BF16) == 2 * 8_030_261_248
    assert kv_bytes_per_token(model, DType.BF16) == 131_072  # 2 x 32 layers x 8 heads x 128 x 2 bytes


def test_the_cache_of_latent_attention_and_of_windows() -> None:
    """DeepSeek-V3 caches 512 + 64 numbers a layer, 70 KB a token as its makers say.

    Half of gpt-oss's layers keep 128 tokens.
    """
    assert kv_bytes_per_token(MODELS["deepseek-v3"], DType.BF16) == 61 * (512 + 64) * 2
    per_layer_token = 2 * 8 * 64 * 2
    gpt_oss = MODELS["gpt-oss-120b"]
    assert kv_bytes(gpt_oss, DType.BF16, context_len=4096) == 18 * (4096 + 128) * per_layer_token
    assert kv_bytes(gpt_oss, DType.BF16, context_len=100) == 100 * kv_bytes_per_token(gpt_oss, DType.BF16)


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda m: m.name)
def test_a_steps_operations_hold_all_its_flops(model: ModelSpec) -> None:
    shape = {"batch_size": 2, "seq_len": 256}
    forward = evaluate_operations(model, **shape, dtype=DType.BF16)
    step = train_step_operations(model, batch_size=2, seq_len=256, dtype=DType.BF16)
    newton_schulz = sum(op.flops for op in step if op.name == "Newton-Schulz products")
    keys = multiplied_keys(256, SQUARE_BLOCKS)
    expected = forward_flops(model, n_tokens=512, n_attended=512 * keys, n_logits=512)
    assert keys == 192  # the upper half of the queries sees 256, the lower half 128
    assert total_flops(forward) == pytest.approx(expected)
    assert total_flops(step) - newton_schulz == pytest.approx(3 * expected)


@given(st.integers(1, 500), st.integers(1, 100_000), st.integers(0, 64))
def test_an_engine_steps_operations_hold_all_its_flops(n_tokens: int, n_attended: int, n_logits: int) -> None:
    model = MODELS["smollm2-135m"]
    work = {"n_tokens": n_tokens, "n_attended": n_attended, "n_logits": n_logits}
    operations = engine_step_operations(model, **work, n_chunks=2, dtype=DType.BF16)
    assert total_flops(operations) == pytest.approx(forward_flops(model, **work))
    assert total_bytes(operations) > weight_bytes(model, DType.BF16) / 2
