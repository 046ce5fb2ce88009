"""How the ``config.json`` of each dense family is read: one small function per architecture.

A function returns the fields of a ``ModelSpec`` but the name. Left out of a config is what its class in Hugging Face
transformers takes by default; a field without such a default is required.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twobills.errors import SpecError
from twobills.specs.hf_fields import (
    Config,
    Shape,
    family_shape,
    flag,
    linear_biases,
    no_window,
    number,
    optional,
    window,
    windowed,
)
from twobills.specs.model import Biases, Norm, Window


def llama(config: Config) -> Shape:
    return {**family_shape("llama", config), "biases": linear_biases(config)}


def arcee(config: Config) -> Shape:
    """Llama with an MLP that nothing gates and whose relu is squared."""
    model = family_shape("llama", {"hidden_act": "relu2", **config})
    return {**model, "gated_mlp": False, "biases": linear_biases(config)}


def mistral(config: Config) -> Shape:
    """A config without ``sliding_window`` has the class's 4096; null means none."""
    model = family_shape("llama", config)
    n_tokens = optional({"sliding_window": 4096, **config}, "sliding_window")
    return {**model, "window": window({}, n_tokens, n_layers=model["n_layers"])}


def qwen2(config: Config) -> Shape:
    model = family_shape("llama", config)
    return {**model, "biases": Biases(qkv=True), "window": _qwen_window(config, model["n_layers"])}


def qwen3(config: Config) -> Shape:
    model = family_shape("llama", {**config, "head_dim": config.get("head_dim") or 128})
    limited = _qwen_window(config, model["n_layers"])
    return {**model, "qk_norm": True, "biases": linear_biases(config), "window": limited}


def _qwen_window(config: Config, n_layers: int) -> Window | None:
    """``max_window_layers`` counts the layers at the bottom that attend to everything."""
    if not flag(config, "use_sliding_window"):
        return None
    n_tokens = number(config, "sliding_window")
    if config.get("layer_types"):
        return window(config, n_tokens, n_layers=n_layers)
    first = number({"max_window_layers": 28, **config}, "max_window_layers")
    return windowed(n_tokens, range(first, n_layers), n_layers, "max_window_layers")


def gpt2(config: Config) -> Shape:
    model = family_shape("gpt2", config, d_ff=0)
    return {**model, "n_learned_positions": model["max_seq_len"]}


def gpt_bigcode(config: Config) -> Shape:
    model = family_shape("gpt_bigcode", config, d_ff=0)
    n_kv_heads = 1 if flag(config, "multi_query", True) else model["n_heads"]
    return {**model, "n_kv_heads": n_kv_heads, "n_learned_positions": model["max_seq_len"]}


def opt(config: Config) -> Shape:
    """Positions are looked up at an offset of 2. A model that normalises after each part has no last norm."""
    model = family_shape("opt", config)
    d_embedding = optional(config, "word_embed_proj_dim")
    biased, affine = flag(config, "enable_bias", True), flag(config, "layer_norm_elementwise_affine", True)
    last_norm = flag(config, "do_layer_norm_before", True) and not flag(config, "_remove_final_layer_norm")
    return {
        **model,
        "biases": Biases(qkv=biased, output=biased, mlp=biased),
        "norm": Norm.LAYER if affine else Norm.PLAIN,
        "final_norm": last_norm,
        "n_learned_positions": model["max_seq_len"] + 2,
        "d_embedding": None if d_embedding == model["d_model"] else d_embedding,
    }


def gptj(config: Config) -> Shape:
    return family_shape("gptj", config, d_ff=0)


def gpt_neox(config: Config) -> Shape:
    on_attention = flag(config, "attention_bias", True)
    return {
        **family_shape("gpt_neox", config),
        "parallel_block": flag(config, "use_parallel_residual", True),
        "biases": Biases(qkv=on_attention, output=on_attention, mlp=True),
    }


def bloom(config: Config) -> Shape:
    """ALiBi has no longest sequence; BLOOM was trained on 2048 tokens, which its configs call ``seq_length``."""
    return family_shape("bloom", config, d_ff=0, max_seq_len=2048)


def falcon(config: Config) -> Shape:
    """The new decoder (40B) has two norms side by side and grouped queries, the old one (7B) one norm and one key."""
    model = family_shape("falcon", config, d_ff=0, max_seq_len=2048)
    new, biased = flag(config, "new_decoder_architecture"), flag(config, "bias")
    parallel = new or flag(config, "parallel_attn", True)
    n_kv_heads = 1 if flag(config, "multi_query", True) else model["n_heads"]
    if new:
        n_kv_heads = optional(config, "num_kv_heads", "n_head_kv") or model["n_heads"]
    n_norms = optional(config, "num_ln_in_parallel_attn") or 2 if new else 1
    return {
        **model,
        "n_kv_heads": n_kv_heads,
        "parallel_block": parallel,
        "norms_per_layer": n_norms if parallel else 2,
        "biases": Biases(qkv=biased, output=biased, mlp=biased),
    }


def mpt(config: Config) -> Shape:
    """``no_bias = false`` is read as MosaicML's own code does: biases in norms and products."""
    ratio = optional(config, "expansion_ratio") or 4
    model = family_shape("mpt", config, d_ff=0)
    attention = config.get("attn_config") or {}
    if flag(attention, "qk_ln"):
        raise SpecError("attn_config.qk_ln=True: not supported yet")
    biased = not flag(config, "no_bias", True)
    learned = not flag(attention, "alibi", True) and not flag(attention, "rope")
    multi_query = 1 if attention.get("attn_type") == "multiquery_attention" else model["n_heads"]
    return {
        **model,
        "d_ff": ratio * model["d_model"],
        "n_kv_heads": optional(attention, "kv_n_heads") or multi_query,
        "norm": Norm.LAYER if biased else Norm.LAYER_NO_BIAS,
        "biases": Biases(qkv=biased, output=biased, mlp=biased),
        "n_learned_positions": model["max_seq_len"] if learned and flag(config, "learned_pos_emb", True) else 0,
    }


def starcoder2(config: Config) -> Shape:
    model, biased = family_shape("starcoder2", config), flag(config, "use_bias", True)
    return {
        **model,
        "biases": Biases(qkv=biased, output=biased, mlp=biased),
        "window": window({}, optional(config, "sliding_window"), n_layers=model["n_layers"]),
    }


def phi(config: Config) -> Shape:
    if flag(config, "qk_layernorm"):
        raise SpecError("qk_layernorm=True: not supported yet for Phi")
    return family_shape("phi", config)


def nemotron(config: Config) -> Shape:
    return {**family_shape("nemotron", config), "biases": linear_biases(config)}


def granite(config: Config) -> Shape:
    return {**family_shape("granite", config), "biases": linear_biases(config)}


def gemma(config: Config) -> Shape:
    return {**family_shape("gemma", {"head_dim": 256, **config}), "biases": linear_biases(config)}


def gemma2(config: Config) -> Shape:
    return _gemma_with_windows("gemma2", {"head_dim": 256, "sliding_window": 4096, **config}, full_every=2)


def gemma3(config: Config) -> Shape:
    """The released text configs leave out what equals the class's defaults."""
    defaults: Mapping[str, Any] = {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262_208,
        "max_position_embeddings": 131_072,
        "sliding_window": 4096,
    }
    every = optional(config, "sliding_window_pattern", "_sliding_window_pattern") or 6
    return _gemma_with_windows("gemma3", {**defaults, **config}, full_every=every)


def _gemma_with_windows(family: str, config: Config, *, full_every: int) -> Shape:
    model = family_shape(family, config)
    limited = window(config, optional(config, "sliding_window"), n_layers=model["n_layers"], full_every=full_every)
    return {**model, "biases": linear_biases(config), "window": limited}


def phi3(config: Config) -> Shape:
    model = family_shape("phi3", config)
    return {**model, "window": window({}, optional(config, "sliding_window"), n_layers=model["n_layers"])}


def olmo(config: Config) -> Shape:
    return {**family_shape("olmo", config), "biases": linear_biases(config)}


def olmo2(config: Config) -> Shape:
    return {**family_shape("olmo2", config), "biases": linear_biases(config)}


def olmo3(config: Config) -> Shape:
    model = family_shape("olmo3", config)
    limited = window(
        config, optional({"sliding_window": 4096, **config}, "sliding_window"), n_layers=model["n_layers"], full_every=4
    )
    return {**model, "biases": linear_biases(config), "window": limited}


def stablelm(config: Config) -> Shape:
    """With ``qk_layernorm`` every head's queries and keys have weights of their own."""
    parallel, qk_norm = flag(config, "use_parallel_residual"), flag(config, "qk_layernorm")
    return {
        **family_shape("stablelm", config),
        "biases": Biases(qkv=flag(config, "use_qkv_bias")),
        "parallel_block": parallel,
        "norms_per_layer": 1 if parallel else 2,
        "qk_norm": qk_norm,
        "qk_norm_full": qk_norm,
    }


def smollm3(config: Config) -> Shape:
    return {**family_shape("smollm3", config), "biases": linear_biases(config), **no_window(config)}
