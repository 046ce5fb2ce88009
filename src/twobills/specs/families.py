"""In what each family of models differs from Llama, for all its sizes; what differs by size stands with each model.

Read by the catalogue's rows (``family = "gpt2"``) and by the translator of ``config.json`` files alike. Source: each
family's ``modeling_*.py`` in Hugging Face transformers 5 (the classes that ``specs.hf_registry`` names), against whose
parameter counts ours are tested. A model's own fields override these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twobills.specs.model import Biases, Norm

_ALL_BIASES = Biases(qkv=True, output=True, mlp=True)
_OLD_STYLE: Mapping[str, Any] = {
    "norm": Norm.LAYER,
    "gated_mlp": False,
    "activation": "gelu",
    "biases": _ALL_BIASES,
}
"""As in the first transformers: LayerNorm, no gate, biases everywhere."""

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "llama": {},  # and Mistral, Mixtral, Qwen 2 and 3, whose differences are fields
    "gpt2": {**_OLD_STYLE, "tied_embeddings": True},
    "opt": {**_OLD_STYLE, "tied_embeddings": True, "activation": "relu"},
    "gptj": {**_OLD_STYLE, "norms_per_layer": 1, "parallel_block": True, "biases": Biases(mlp=True, head=True)},
    "gpt_neox": {**_OLD_STYLE, "parallel_block": True},
    "bloom": {**_OLD_STYLE, "tied_embeddings": True, "embedding_norm": True},
    "falcon": {**_OLD_STYLE, "tied_embeddings": True, "parallel_block": True, "biases": Biases()},
    "mpt": {**_OLD_STYLE, "tied_embeddings": True, "norm": Norm.LAYER_NO_BIAS, "biases": Biases()},
    "gpt_bigcode": {**_OLD_STYLE, "tied_embeddings": True},
    "starcoder2": {**_OLD_STYLE, "tied_embeddings": True},
    "phi": {
        **_OLD_STYLE,
        "norms_per_layer": 1,
        "parallel_block": True,
        "biases": Biases(qkv=True, output=True, mlp=True, head=True),
    },
    "nemotron": {**_OLD_STYLE, "activation": "relu2", "biases": Biases()},
    "llama4": {},
    "gemma": {"tied_embeddings": True, "activation": "gelu"},
    "gemma2": {"tied_embeddings": True, "activation": "gelu", "norms_per_layer": 4},
    "gemma3": {"tied_embeddings": True, "activation": "gelu", "norms_per_layer": 4, "qk_norm": True},
    "phi3": {},
    "phimoe": {"norm": Norm.LAYER, "biases": Biases(qkv=True, output=True, head=True)},
    "deepseek": {},
    "gpt_oss": {
        "attention_sinks": True,
        "biases": Biases(qkv=True, output=True, mlp=True, router=True),
    },
    "dbrx": {"norm": Norm.LAYER_NO_BIAS},
    "granite": {},
    "olmo": {"norm": Norm.PLAIN},
    "olmo2": {"qk_norm": True, "qk_norm_full": True},
    "olmo3": {"qk_norm": True, "qk_norm_full": True},
    "stablelm": {"norm": Norm.LAYER},
    "smollm3": {"tied_embeddings": True},
}
