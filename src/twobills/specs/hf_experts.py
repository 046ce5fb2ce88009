"""How the ``config.json`` of each family with experts is read: one small function per architecture.

As in ``hf_dense``: a function returns the fields of a ``ModelSpec`` but the name.
"""

from __future__ import annotations

from typing import Any

from twobills.errors import SpecError
from twobills.specs.hf_fields import (
    Config,
    Shape,
    expert_layers,
    family_shape,
    flag,
    linear_biases,
    no_window,
    number,
    optional,
    window,
    windowed,
)
from twobills.specs.model import Biases, LatentAttention, MoE, Window


def mixtral(config: Config) -> Shape:
    model = family_shape("llama", config)
    return {
        **model,
        "moe": _in_every_layer(config, model["d_ff"]),
        "window": window({}, optional(config, "sliding_window"), n_layers=model["n_layers"]),
    }


def qwen2_moe(config: Config) -> Shape:
    model = family_shape("llama", config)
    d_shared = number(config, "shared_expert_intermediate_size")
    moe = _qwen_moe(config, model["n_layers"], d_shared=d_shared, shared_gate=True)
    return {**model, "biases": Biases(qkv=flag(config, "qkv_bias", True)), "moe": moe, **no_window(config)}


def qwen3_moe(config: Config) -> Shape:
    model = family_shape("llama", config)
    moe = _qwen_moe(config, model["n_layers"])
    return {**model, "qk_norm": True, "biases": linear_biases(config), "moe": moe, **no_window(config)}


def _qwen_moe(config: Config, n_layers: int, **shared: Any) -> MoE | None:
    step = optional(config, "decoder_sparse_step") or 1
    dense = set(config.get("mlp_only_layers") or ())
    layers = [i for i in range(n_layers) if (i + 1) % step == 0 and i not in dense]
    if not layers:
        return None
    n_dense_first, every = expert_layers(layers, n_layers, "mlp_only_layers, decoder_sparse_step")
    return MoE(
        n_experts=number(config, "num_experts", "num_local_experts"),
        n_active_experts=number(config, "num_experts_per_tok"),
        d_expert=number(config, "moe_intermediate_size"),
        n_dense_first=n_dense_first,
        every=every,
        **shared,
    )


def llama4(config: Config) -> Shape:
    """In the released configs ``intermediate_size`` is an expert's width, ``intermediate_size_mlp`` a dense layer's."""
    model = family_shape("llama4", config)
    n_layers, d_expert = model["n_layers"], model["d_ff"]
    step = optional(config, "interleave_moe_layer_step") or 1
    layers = config.get("moe_layers")
    layers = list(range(step - 1, n_layers, step)) if layers is None else layers
    n_dense_first, every = expert_layers(layers, n_layers, "moe_layers")
    moe = MoE(
        n_experts=number(config, "num_local_experts"),
        n_active_experts=number(config, "num_experts_per_tok"),
        d_expert=d_expert,
        d_shared=d_expert,
        n_dense_first=n_dense_first,
        every=every,
    )
    return {
        **model,
        "d_ff": number(config, "intermediate_size_mlp"),
        "moe": moe if layers else None,
        "biases": linear_biases(config),
        "window": _llama4_window(config, n_layers),
    }


def _llama4_window(config: Config, n_layers: int) -> Window | None:
    """Layers with rotary positions attend within chunks, the others to everything."""
    n_tokens = optional(config, "attention_chunk_size")
    if n_tokens is None:
        return None
    every = optional(config, "no_rope_layer_interval") or 4
    rotary = config.get("no_rope_layers") or [(i + 1) % every for i in range(n_layers)]
    layers = [i for i, has in enumerate(rotary) if has]
    return windowed(n_tokens, layers, n_layers, "no_rope_layers", chunked=True)


def phimoe(config: Config) -> Shape:
    model, on_attention = family_shape("phimoe", config), flag(config, "attention_bias")
    return {
        **model,
        "moe": _in_every_layer(config, model["d_ff"]),
        "biases": Biases(qkv=on_attention, output=on_attention, head=flag(config, "lm_head_bias")),
        "window": window({}, optional(config, "sliding_window"), n_layers=model["n_layers"]),
    }


def deepseek(config: Config) -> Shape:
    latent = LatentAttention(
        kv_lora_rank=number(config, "kv_lora_rank"),
        q_lora_rank=optional(config, "q_lora_rank"),
        d_rope=number(config, "qk_rope_head_dim"),
        d_nope=number(config, "qk_nope_head_dim"),
        d_value=number(config, "v_head_dim"),
    )
    for name in ("attention_bias", "mlp_bias"):
        if flag(config, name):
            raise SpecError(f"{name}=True: not supported with latent attention")
    model = family_shape("deepseek", {**config, "head_dim": latent.d_nope + latent.d_rope})
    n_ahead = optional(config, "num_nextn_predict_layers", "num_mtp_layers") or 0
    ahead = f"multi-token prediction (num_nextn_predict_layers={n_ahead})"
    return {
        **model,
        "n_kv_heads": model["n_heads"],
        "latent": latent,
        "moe": _deepseek_moe(config),
        "left_out": (ahead,) if n_ahead else (),
    }


def _deepseek_moe(config: Config) -> MoE | None:
    n_experts = optional(config, "n_routed_experts", "num_local_experts")
    if not n_experts:
        return None
    if (freq := optional(config, "moe_layer_freq") or 1) != 1:
        raise SpecError(f"moe_layer_freq={freq}: only 1 is supported")
    d_expert = number(config, "moe_intermediate_size")
    groups, all_groups = optional(config, "topk_group") or 0, optional(config, "n_group") or 0
    return MoE(
        n_experts=n_experts,
        n_active_experts=number(config, "num_experts_per_tok"),
        d_expert=d_expert,
        d_shared=(optional(config, "n_shared_experts") or 0) * d_expert,
        n_dense_first=optional(config, "first_k_dense_replace") or 0,
        n_active_groups=groups if 0 < groups < all_groups else None,
    )


def gpt_oss(config: Config) -> Shape:
    model = family_shape("gpt_oss", {"head_dim": 64, **config})
    on_attention = flag(config, "attention_bias", True)
    limited = window(
        config, optional({"sliding_window": 128, **config}, "sliding_window"), n_layers=model["n_layers"], full_every=2
    )
    biases = Biases(qkv=on_attention, output=on_attention, mlp=True, router=True)
    return {**model, "moe": _in_every_layer(config, model["d_ff"]), "biases": biases, "window": limited}


def dbrx(config: Config) -> Shape:
    """Experts and grouped queries stand in configs of their own."""
    experts, attention = config.get("ffn_config") or {}, config.get("attn_config") or {}
    d_expert = number(experts, "ffn_hidden_size")
    moe = MoE(
        n_experts=number(experts, "moe_num_experts"),
        n_active_experts=number(experts, "moe_top_k"),
        d_expert=d_expert,
    )
    model = family_shape("dbrx", {**config, "intermediate_size": d_expert})
    return {**model, "n_kv_heads": number(attention, "kv_n_heads"), "moe": moe}


def _in_every_layer(config: Config, d_expert: int) -> MoE:
    return MoE(
        n_experts=number(config, "num_local_experts", "num_experts"),
        n_active_experts=number(config, "num_experts_per_tok", "experts_per_token"),
        d_expert=d_expert,
    )
