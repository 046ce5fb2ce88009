"""The one translator between Hugging Face's ``config.json`` and our names.

Reads every decoder that ``specs.hf_registry`` lists, and writes what our own network runs (Llama, Qwen3, Arcee).
Anything else is refused by name, with what is missing: a config that is half understood gives a wrong bill. Of a
wrapper with several parts (image and text) the text model is read, and ``left_out`` names the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from twobills.errors import SpecError
from twobills.specs.hf_registry import HYBRIDS, KNOWN, READERS, plain
from twobills.specs.model import ModelSpec, check_own_network

_FIELDS = {
    "n_layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "vocab_size": "vocab_size",
    "max_seq_len": "max_position_embeddings",
}


def read_config(path: Path) -> ModelSpec:
    """The model that a ``config.json`` describes, by its folder's name; a file of another name goes by that.

    Raises SpecError, naming the file and what is wrong.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SpecError(f"{path}: not a readable config.json ({error})") from None
    if not isinstance(document, dict):
        raise SpecError(f"{path}: not a config.json; it must hold one JSON object")
    try:
        return from_hf(document, name=path.resolve().parent.name if path.name == "config.json" else path.stem)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise SpecError(f"{path}: a field holds something else than it should ({error})") from None


def from_hf(config: Mapping[str, Any], *, name: str) -> ModelSpec:
    """The model of a Hugging Face config. Raises SpecError for an unknown architecture or a missing field."""
    text = config.get("text_config")
    if isinstance(text, Mapping):
        parts = tuple(f"{key.removesuffix('_config')} model ({key})" for key in _other_parts(config))
        parts = parts or ("whatever stands beside the text model",)
        tied = {key: config[key] for key in ("tie_word_embeddings",) if config.get(key) is not None}
        inner = from_hf({**text, **tied, "architectures": None}, name=name)
        return replace(inner, left_out=(*inner.left_out, *parts))
    architecture = _architecture(config)
    return ModelSpec(name=name, **READERS[architecture](config))


def to_hf(model: ModelSpec, *, dtype: str, eos_token_id: int) -> dict[str, Any]:
    """The ``config.json`` that ``transformers``, vLLM and llama.cpp's converter read for this model.

    Raises SpecError for a model that our own network does not run.
    """
    check_own_network(model)
    name, kind = _name(model)
    return {
        "architectures": [name],
        "model_type": kind,
        **{theirs: getattr(model, ours) for ours, theirs in _FIELDS.items()},
        "num_key_value_heads": model.n_kv_heads,
        "head_dim": model.d_head,
        "tie_word_embeddings": model.tied_embeddings,
        "rope_theta": model.rope_theta,
        "rms_norm_eps": model.norm_eps,
        "hidden_act": model.activation,
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": dtype,
        "torch_dtype": dtype,
        "bos_token_id": eos_token_id,
        "eos_token_id": eos_token_id,
        "use_cache": True,
    }


def _name(model: ModelSpec) -> tuple[str, str]:
    """Architecture and ``model_type`` of a shape that our own network runs."""
    if not model.gated_mlp:
        return "ArceeForCausalLM", "arcee"
    return ("Qwen3ForCausalLM", "qwen3") if model.qk_norm else ("LlamaForCausalLM", "llama")


def _architecture(config: Mapping[str, Any]) -> str:
    """The name in ``READERS`` of the config's architecture."""
    named = config.get("architectures")
    given = str(named[0]) if named else str(config.get("model_type"))
    if (name := plain(given)) in KNOWN:
        return KNOWN[name]
    what = f"architecture={given}" if named else f"model_type={given}"
    if name in HYBRIDS:
        raise SpecError(f"{what}: {HYBRIDS[name]} cannot be counted yet")
    raise SpecError(f"{what}: not known; known are {', '.join(READERS)}")


def _other_parts(config: Mapping[str, Any]) -> list[str]:
    """Configs of parts beside the text model; how weights are stored is no part."""
    beside = {"text_config", "quantization_config", "compression_config"}
    return sorted(key for key, part in config.items() if key.endswith("_config") and key not in beside and part)
