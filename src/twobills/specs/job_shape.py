"""What ``[model]`` of a training job may say: the whole shape, and the choices that our own network knows.

Choices that are left out are Llama's with tied embeddings. What no published architecture has is refused, so that
other programs open whatever is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twobills.errors import RequestError
from twobills.specs.model import GATED_SILU, PLAIN_RELU2, ModelSpec

SIZE_KEYS = ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_head", "d_ff")
_DEFAULTS: Mapping[str, bool | str] = {"activation": "silu", "qk_norm": False, "tied_embeddings": True}
MODEL_KEYS = (*SIZE_KEYS, *_DEFAULTS)
_ACTIVATIONS = dict((GATED_SILU, PLAIN_RELU2))
"""Whether a second product gates each."""


def check_shape(shape: Mapping[str, Any]) -> None:
    """Raises RequestError for a value of the wrong kind, a shape that is not whole, or one that nobody else has."""
    for key, value in shape.items():
        _check_value(key, value)
    if shape and (missing := [key for key in SIZE_KEYS if key not in shape and key != "d_head"]):
        raise RequestError(f"[model]: {missing[0]} is missing; give the whole shape, or none to let the plan choose")
    if shape.get("qk_norm") and not _ACTIVATIONS[shape.get("activation", "silu")]:
        raise RequestError(
            f"model.qk_norm=true with model.activation={shape['activation']!r}: no Hugging Face architecture has both; "
            "leave one of them out"
        )


def said(shape: Mapping[str, Any]) -> dict[str, Any]:
    """What the shape says beyond the defaults, which need not be said."""
    return {key: value for key, value in shape.items() if key not in _DEFAULTS or value != _DEFAULTS[key]}


def model_of_shape(shape: Mapping[str, Any], *, vocab_size: int, max_seq_len: int) -> ModelSpec:
    """The model of a whole shape. Raises SpecError where its numbers contradict each other."""
    chosen = {**_DEFAULTS, **shape}
    return ModelSpec(
        name=f"d{shape['d_model']}-l{shape['n_layers']}",
        **{
            "d_head": shape["d_model"] // max(1, shape["n_heads"]),
            **{key: chosen[key] for key in MODEL_KEYS if key in chosen},
        },
        gated_mlp=_ACTIVATIONS[chosen["activation"]],
        vocab_size=vocab_size,
        max_seq_len=max_seq_len,
    )


def _check_value(key: str, value: Any) -> None:
    wanted = type(_DEFAULTS.get(key, 0))
    if wanted is int and (not isinstance(value, int) or isinstance(value, bool)):
        raise RequestError(f"model.{key}={value!r}: must be a number")
    if wanted is bool and not isinstance(value, bool):
        raise RequestError(f"model.{key}={value!r}: must be true or false")
    if wanted is str and value not in (*_ACTIVATIONS,):
        raise RequestError(f"model.{key}={value!r}: must be one of {', '.join(_ACTIVATIONS)}")
