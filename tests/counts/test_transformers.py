"""Our counts against a witness: each family's network as Hugging Face transformers builds it, in a small size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from twobills.counts.flops import forward_flops
from twobills.counts.params import count_params
from twobills.specs.hf import from_hf
from twobills.specs.hf_registry import KNOWN, READERS, plain

torch = pytest.importorskip("torch")
FlopCounterMode = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode
transformers = pytest.importorskip("transformers")

_LLAMA: dict[str, Any] = {
    "num_hidden_layers": 3,
    "hidden_size": 48,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "vocab_size": 96,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GPT2: dict[str, Any] = {"n_layer": 3, "n_embd": 48, "n_head": 6, "n_positions": 64, "vocab_size": 96}
_BLOOM: dict[str, Any] = {"n_layer": 3, "hidden_size": 48, "n_head": 6, "vocab_size": 96}
_MPT: dict[str, Any] = {"n_layers": 3, "d_model": 48, "n_heads": 6, "max_seq_len": 64, "vocab_size": 96}
_FALCON = {key: value for key, value in _LLAMA.items() if key not in {"num_key_value_heads", "intermediate_size"}}
_OPT = {**_FALCON, "ffn_dim": 80}
_LATENT: dict[str, Any] = {
    **_LLAMA,
    "num_key_value_heads": 6,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12,
    "v_head_dim": 10,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
_QWEN_MOE: dict[str, Any] = {**_LLAMA, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_LLAMA4: dict[str, Any] = {
    **_LLAMA,
    "num_hidden_layers": 8,
    "intermediate_size_mlp": 112,
    "num_local_experts": 4,
    "head_dim": 10,
    "attention_chunk_size": 16,
}

CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("llama", _LLAMA),
    ("arcee", _LLAMA),
    ("llama", {**_LLAMA, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "head_dim": 16}),
    ("mistral", {**_LLAMA, "sliding_window": 16}),
    ("mixtral", {**_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}),
    ("qwen2", {**_LLAMA, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}),
    ("qwen2_moe", {**_QWEN_MOE, "shared_expert_intermediate_size": 40, "decoder_sparse_step": 2}),
    ("qwen3", {**_LLAMA, "head_dim": 10}),
    ("qwen3_moe", {**_QWEN_MOE, "head_dim": 10, "mlp_only_layers": [0]}),
    ("llama4_text", {**_LLAMA4, "interleave_moe_layer_step": 2}),
    ("llama4_text", _LLAMA4),
    ("gpt2", _GPT2),
    ("gpt2", {**_GPT2, "n_inner": 100}),
    ("gpt_bigcode", _GPT2),
    ("gpt_bigcode", {**_GPT2, "multi_query": False}),
    ("opt", _OPT),
    ("opt", {**_OPT, "word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    ("gptj", {**_GPT2, "rotary_dim": 4}),
    ("gpt_neox", {k: v for k, v in _LLAMA.items() if k != "num_key_value_heads"}),
    ("bloom", _BLOOM),
    ("falcon", _FALCON),
    ("falcon", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    ("falcon", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1}),
    ("falcon", {**_FALCON, "parallel_attn": False, "multi_query": False, "bias": True, "alibi": True}),
    ("mpt", _MPT),
    ("starcoder2", {**_LLAMA, "sliding_window": 16}),
    ("phi", _LLAMA),
    ("nemotron", _LLAMA),
    ("granite", _LLAMA),
    ("gemma", {**_LLAMA, "head_dim": 16}),
    ("gemma2", {**_LLAMA, "head_dim": 16}),
    ("gemma3_text", {**_LLAMA, "head_dim": 16}),
    ("phi3", _LLAMA),
    ("phimoe", {**_LLAMA, "num_local_experts": 4, "attention_bias": True, "lm_head_bias": True}),
    ("deepseek_v2", {**_LATENT, "q_lora_rank": None}),
    ("deepseek_v2", {**_LATENT, "q_lora_rank": 20}),
    ("deepseek_v3", {**_LATENT, "q_lora_rank": 20}),
    ("gpt_oss", {**_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 10}),
    (
        "dbrx",
        {
            **_MPT,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
            "ffn_config": {"ffn_hidden_size": 40, "moe_num_experts": 4, "moe_top_k": 2},
        },
    ),
    ("olmo", _LLAMA),
    ("olmo2", _LLAMA),
    ("olmo3", {**_LLAMA, "num_hidden_layers": 8}),
    ("stablelm", {**_LLAMA, "use_qkv_bias": True}),
    ("stablelm", {**_LLAMA, "qk_layernorm": True, "use_parallel_residual": True}),
    ("smollm3", _LLAMA),
]
_IDS = [f"{i}-{model_type}" for i, (model_type, _) in enumerate(CONFIGS)]


@pytest.mark.parametrize(("model_type", "shape"), CONFIGS, ids=_IDS)
def test_counted_parameters_are_those_that_transformers_builds(model_type: str, shape: dict[str, Any]) -> None:
    config = transformers.AutoConfig.for_model(model_type, **shape)
    with torch.device("meta"):
        network = transformers.AutoModelForCausalLM.from_config(config)
    network.tie_weights()
    assert count_params(from_hf(config.to_dict(), name=model_type)).total == network.num_parameters()


@pytest.mark.parametrize(("model_type", "shape"), CONFIGS, ids=_IDS)
def test_counted_flops_are_those_that_a_profiler_sees(model_type: str, shape: dict[str, Any]) -> None:
    """Eager attention multiplies the whole square, windows or not. Llama 4's runs every expert on every token."""
    if model_type in {"llama4_text", "dbrx"}:
        pytest.skip("its eager experts run tokens that they were not given, or not under the profiler")
    config = transformers.AutoConfig.for_model(model_type, **shape)
    network = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", experts_implementation="eager"
    ).eval()
    tokens = torch.arange(3, 27).view(2, 12)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(input_ids=tokens, use_cache=False)
    model = replace(from_hf(config.to_dict(), name=model_type), window=None)
    assert counter.get_total_flops() == forward_flops(model, n_tokens=24, n_attended=24 * 12, n_logits=24)


def test_every_architecture_that_can_be_read_has_its_witness() -> None:
    assert {KNOWN[plain(model_type)] for model_type, _ in CONFIGS} == set(READERS)


def test_an_image_and_text_models_text_part_is_read() -> None:
    """The wrapper's parameters less those of its other parts."""
    text = {**_LLAMA, "head_dim": 16, "sliding_window": 8}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 28,
        "patch_size": 14,
    }
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    with torch.device("meta"):
        network = transformers.Gemma3ForConditionalGeneration(config)
    network.tie_weights()
    others = (network.model.vision_tower, network.model.multi_modal_projector)
    n_others = sum(p.numel() for part in others for p in part.parameters())
    model = from_hf({**config.to_dict(), "architectures": ["Gemma3ForConditionalGeneration"]}, name="x")
    assert count_params(model).total == network.num_parameters() - n_others
    assert model.left_out == ("vision model (vision_config)",)
