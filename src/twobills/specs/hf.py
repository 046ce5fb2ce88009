"""The one translator between Hugging Face's ``config.json`` and our names.

Reads the dense decoder families that ``ModelSpec`` can express (Llama, Qwen3) and writes the same. Anything else is
refused by name: a config that is half understood gives a wrong bill.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twobills.errors import SpecError
from twobills.specs.model import ModelSpec

_ARCHITECTURES = {"LlamaForCausalLM": "llama", "Qwen3ForCausalLM": "qwen3"}
_FIELDS = {
    "n_layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "vocab_size": "vocab_size",
    "max_seq_len": "max_position_embeddings",
}


def read_config(path: Path) -> ModelSpec:
    """The model that a ``config.json`` describes. Raises SpecError, naming the file and what is wrong."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SpecError(f"{path}: not a readable config.json ({error})") from None
    if not isinstance(document, dict):
        raise SpecError(f"{path}: not a config.json; it must hold one JSON object")
    try:
        return from_hf(document, name=path.parent.name)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise SpecError(f"{path}: a field holds something else than it should ({error})") from None


def from_hf(config: Mapping[str, Any], *, name: str) -> ModelSpec:
    """The model of a Hugging Face config. Raises SpecError for another architecture or a missing field."""
    architecture = next(iter(config.get("architectures") or []), f"model_type {config.get('model_type')!r}")
    family = _ARCHITECTURES.get(architecture)
    if family is None:
        raise SpecError(f"architecture={architecture}: not one of {', '.join(_ARCHITECTURES)}")
    missing = [theirs for theirs in _FIELDS.values() if theirs not in config]
    if missing:
        raise SpecError(f"{', '.join(missing)}: missing from the config")
    _refuse_what_we_would_get_wrong(config)
    n_heads, d_model = int(config["num_attention_heads"]), int(config["hidden_size"])
    rope = config.get("rope_parameters") or {}
    return ModelSpec(
        name=name,
        **{ours: int(config[theirs]) for ours, theirs in _FIELDS.items()},
        n_kv_heads=int(config.get("num_key_value_heads") or n_heads),
        d_head=int(config.get("head_dim") or d_model // n_heads),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        qk_norm=family == "qwen3",
        rope_theta=float(config.get("rope_theta") or rope.get("rope_theta") or 10_000.0),
        norm_eps=float(config.get("rms_norm_eps", 1e-6)),
    )


def to_hf(model: ModelSpec, *, dtype: str, eos_token_id: int) -> dict[str, Any]:
    """The ``config.json`` that ``transformers``, vLLM and llama.cpp's converter read for this model."""
    family = "qwen3" if model.qk_norm else "llama"
    architecture = next(name for name, known in _ARCHITECTURES.items() if known == family)
    return {
        "architectures": [architecture],
        "model_type": family,
        **{theirs: getattr(model, ours) for ours, theirs in _FIELDS.items()},
        "num_key_value_heads": model.n_kv_heads,
        "head_dim": model.d_head,
        "tie_word_embeddings": model.tied_embeddings,
        "rope_theta": model.rope_theta,
        "rms_norm_eps": model.norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": dtype,
        "torch_dtype": dtype,
        "bos_token_id": eos_token_id,
        "eos_token_id": eos_token_id,
        "use_cache": True,
    }


def _refuse_what_we_would_get_wrong(config: Mapping[str, Any]) -> None:
    for key in ("attention_bias", "mlp_bias", "use_sliding_window"):
        if config.get(key):
            raise SpecError(f"{key}={config[key]}: not supported yet")
    if config.get("hidden_act", "silu") != "silu":
        raise SpecError(f"hidden_act={config['hidden_act']!r}: only the gated silu MLP is supported")
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind != "default":
        raise SpecError(f"rope_type={kind!r}: only unscaled rotary positions are supported")
