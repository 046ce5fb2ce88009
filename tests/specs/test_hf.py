from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import RUNNABLE, SMALL
from twobills.errors import SpecError
from twobills.specs import catalog
from twobills.specs.hf import from_hf, read_config, to_hf
from twobills.specs.hf_registry import ALIASES, HYBRIDS, KNOWN, READERS, plain
from twobills.specs.model import LatentAttention, ModelSpec, MoE, Window

LLAMA = to_hf(catalog.model("smollm2-135m"), dtype="bfloat16", eos_token_id=0)
LLAMA_4: dict[str, Any] = {
    **LLAMA,
    "architectures": ["Llama4ForCausalLM"],
    "num_hidden_layers": 8,
    "intermediate_size_mlp": 512,
    "num_local_experts": 4,
    "num_experts_per_tok": 1,
    "attention_chunk_size": 64,
}
DEEPSEEK: dict[str, Any] = {
    **LLAMA,
    "architectures": ["DeepseekV3ForCausalLM"],
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "n_routed_experts": 64,
    "num_experts_per_tok": 6,
    "n_shared_experts": 2,
    "moe_intermediate_size": 1408,
    "first_k_dense_replace": 1,
    "num_nextn_predict_layers": 1,
}


@st.composite
def own_shapes(draw: st.DrawFn) -> ModelSpec:
    """Shapes that our own network runs."""
    n_kv_heads = draw(st.integers(1, 16))
    small = st.integers(1, 1000)
    return ModelSpec(
        name="x",
        n_layers=draw(small),
        d_model=draw(small),
        n_heads=n_kv_heads * draw(st.integers(1, 8)),
        n_kv_heads=n_kv_heads,
        d_head=2 * draw(st.integers(1, 128)),
        d_ff=draw(small),
        vocab_size=draw(small),
        max_seq_len=draw(small),
        tied_embeddings=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        rope_theta=draw(st.floats(1, 1e9)),
        norm_eps=draw(st.floats(1e-9, 1e-3)),
    )


@given(own_shapes())
def test_a_shape_survives_the_translation_to_hugging_face(model: ModelSpec) -> None:
    assert from_hf(json.loads(json.dumps(to_hf(model, dtype="bfloat16", eos_token_id=0))), name="x") == model


@pytest.mark.parametrize("model", RUNNABLE, ids=lambda m: m.name)
def test_a_model_survives_the_translation_to_hugging_face(model: ModelSpec) -> None:
    assert from_hf(to_hf(model, dtype="bfloat16", eos_token_id=0), name=model.name) == model


def test_only_what_our_own_network_runs_is_written() -> None:
    with pytest.raises(SpecError, match="our own network runs Llama, Qwen3 and Arcee shapes only"):
        to_hf(catalog.model("gpt2"), dtype="bfloat16", eos_token_id=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["MambaForCausalLM"]}, r"architecture=MambaForCausalLM: state-space \(Mamba\) layers"),
        ({"architectures": ["Qwen3NextForCausalLM"]}, "linear attention layers"),
        ({"architectures": None, "model_type": "qwen3_5_moe_text"}, "model_type=qwen3_5_moe_text: linear attention"),
        ({"architectures": ["GrokForCausalLM"]}, "architecture=GrokForCausalLM: not known; known are LlamaForCausalLM"),
        ({"architectures": None, "model_type": "grok"}, "model_type=grok: not known"),
        ({"hidden_size": None, "vocab_size": None}, "^hidden_size, vocab_size: missing from the config"),
        ({"num_hidden_layers": "many"}, "num_hidden_layers='many': must be a whole number"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers=2.5: must be a whole number"),
        ({"num_attention_heads": 0}, "num_attention_heads=0: must be at least 1"),
        ({"num_attention_heads": 7, "head_dim": None}, "hidden_size=576: not divisible by num_attention_heads=7"),
        ({"num_key_value_heads": 4}, "n_heads=9: not divisible by n_kv_heads=4"),
        ({"rope_theta": "big"}, "rope_theta='big': must be a number"),
        ({"architectures": ["Gemma2ForCausalLM"], "layer_types": ["conv"] * 30}, "layer_types holds conv"),
        ({"architectures": ["Gemma2ForCausalLM"], "layer_types": ["full_attention"]}, "layer_types names 1 layers"),
        (
            {"architectures": ["Gemma2ForCausalLM"], "layer_types": ["sliding_attention"] + ["full_attention"] * 29},
            "layer_types: windowed layers must be all",
        ),
        ({**DEEPSEEK, "kv_lora_rank": None}, "kv_lora_rank: missing from the config"),
        ({**DEEPSEEK, "moe_layer_freq": 2}, "moe_layer_freq=2: only 1 is supported"),
        ({**DEEPSEEK, "num_experts_per_tok": 65}, "n_active_experts=65: must be at most n_experts=64"),
        ({**LLAMA_4, "moe_layers": [0, 3, 4]}, "moe_layers: layers with experts must be every nth"),
    ],
)
def test_a_config_that_cannot_be_counted_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        from_hf({**LLAMA, **change}, name="x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff"])
def test_a_file_that_is_no_config_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(SpecError, match=r"config\.json"):
        read_config(path)


def test_a_model_is_named_by_its_folder_or_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    for name in ("config.json", "other.json"):
        (folder / name).write_text(json.dumps(LLAMA))
    assert read_config(folder / "config.json").name == "my-model"
    assert read_config(folder / "other.json").name == "other"
    monkeypatch.chdir(folder)
    assert read_config(Path("config.json")).name == "my-model"


def test_stretched_positions_are_a_fact_and_no_obstacle() -> None:
    assert from_hf({**LLAMA, "rope_scaling": {"rope_type": "yarn"}}, name="x").rope_scaling == "yarn"
    assert from_hf({**LLAMA, "rope_parameters": {"rope_type": "default"}}, name="x").rope_scaling is None


def test_deepseeks_parts_are_read() -> None:
    model = from_hf(DEEPSEEK, name="x")
    assert model.latent == LatentAttention(kv_lora_rank=512, d_rope=64, d_nope=128, d_value=128)
    assert model.moe == MoE(n_experts=64, n_active_experts=6, d_expert=1408, d_shared=2816, n_dense_first=1)
    assert model.d_head == 192
    assert model.left_out == ("multi-token prediction (num_nextn_predict_layers=1)",)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"architectures": ["MistralForCausalLM"], "sliding_window": None}, None),
        ({"architectures": ["MistralForCausalLM"]}, Window(n_tokens=4096)),
        ({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 64}, None),
        (
            {
                "architectures": ["Qwen2ForCausalLM"],
                "use_sliding_window": True,
                "sliding_window": 64,
                "max_window_layers": 20,
            },
            Window(n_tokens=64, first_layer=20),
        ),
        ({"architectures": ["Gemma2ForCausalLM"], "sliding_window": 64}, Window(n_tokens=64, full_every=2)),
        ({"architectures": ["Gemma3ForCausalLM"], "sliding_window": 64}, Window(n_tokens=64, full_every=6)),
        (
            {
                "architectures": ["Gemma3ForCausalLM"],
                "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 6,
                "sliding_window": 64,
            },
            Window(n_tokens=64, full_every=5),
        ),
        (LLAMA_4, Window(n_tokens=64, full_every=4, chunked=True)),
        ({**LLAMA_4, "attention_chunk_size": None}, None),
    ],
)
def test_which_layers_have_a_window(change: dict[str, Any], expected: Window | None) -> None:
    assert from_hf({**LLAMA, **change}, name="x").window == expected


def test_llama_4s_dense_layers_and_its_wrapper() -> None:
    text = {**LLAMA_4, "interleave_moe_layer_step": 2, "model_type": "llama4_text"}
    wrapper = {
        "architectures": ["Llama4ForConditionalGeneration"],
        "text_config": text,
        "vision_config": {"hidden_size": 8},
        "quantization_config": {"bits": 4},
    }
    model = from_hf(wrapper, name="x")
    assert model.d_ff == 512
    assert model.moe is not None
    assert (model.moe.every, model.moe.d_expert, model.moe.d_shared) == (2, 1536, 1536)
    assert model.left_out == ("vision model (vision_config)",)


def test_no_name_is_listed_that_nobody_reads() -> None:
    assert set(ALIASES.values()) <= set(READERS)
    assert not set(HYBRIDS) & set(KNOWN)
    assert len(KNOWN) == len(READERS) + len(ALIASES), "two names must not become one"


@pytest.mark.parametrize("spelling", ["LlamaForCausalLM", "LLaMAForCausalLM", "llama"])
def test_an_architecture_has_many_spellings(spelling: str) -> None:
    assert KNOWN[plain(spelling)] == "LlamaForCausalLM"


def test_a_relu_squared_that_nothing_gates_is_arcees() -> None:
    model = replace(SMALL, gated_mlp=False, activation="relu2", tied_embeddings=False)
    config = to_hf(model, dtype="float32", eos_token_id=0)
    assert config["architectures"] == ["ArceeForCausalLM"]
    assert from_hf(config, name=model.name) == model
    with pytest.raises(SpecError, match="qk_norm=True with gated_mlp=False"):
        to_hf(replace(model, qk_norm=True), dtype="float32", eos_token_id=0)
    with pytest.raises(SpecError, match=r"activation=gelu, gated_mlp=True.*silu and gated, or relu2 and not"):
        to_hf(replace(SMALL, activation="gelu"), dtype="float32", eos_token_id=0)
