"""One row of a catalogue of models, ours or a user's, as a ``ModelSpec``.

A row names a ``family`` and states what differs from it. Errors name the row and the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from twobills.errors import CatalogError, SpecError
from twobills.specs.families import FAMILIES
from twobills.specs.model import Biases, LatentAttention, ModelSpec, MoE, Norm, Window

_PROVENANCE = ("source", "as_of")
_TRAINED = {"train_seq_len", "train_seq_source"}
_TOKENS = {"train_tokens", "train_tokens_source", "train_tokens_verified"}
_BESIDE = {
    *_PROVENANCE,
    *_TRAINED,
    *_TOKENS,
    "aliases",
    "verified",
    "published_params",
    "published_active",
    "published_note",
}
_PARTS = {"biases": Biases, "latent": LatentAttention, "moe": MoE, "window": Window}
_SHAPE = {field.name for field in fields(ModelSpec)} - {"name"}
_REQUIRED = tuple(
    f.name for f in fields(ModelSpec) if f.default is MISSING and f.name not in {"name", "n_kv_heads", "d_head"}
)
_TYPES = {"int": int, "float": int | float, "bool": bool, "str": str}


def read_model(name: str, row: Any, *, where: str = "models.toml") -> ModelSpec:
    """The model of one row. Raises CatalogError, naming the file, the row and the key."""
    what = f"{where}: model {name}"
    if not isinstance(row, Mapping):
        raise CatalogError(f"{what}: {row!r}: must be a table of keys and values")
    if missing := [key for key in _PROVENANCE if key not in row]:
        raise CatalogError(f"{what}: {missing[0]} is missing; every row says where it comes from and as of when")
    if unknown := sorted(set(row) - _SHAPE - _BESIDE):
        raise CatalogError(f"{what}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_SHAPE | _BESIDE))}")
    family = row.get("family", "llama")
    if not isinstance(family, str) or family not in FAMILIES:
        raise CatalogError(f"{what}: family={family!r}: not one of {', '.join(FAMILIES)}")
    stated = {key: _value(what, key, value) for key, value in row.items() if key in _SHAPE}
    try:
        return ModelSpec(name=name, **_completed(what, {"family": family, **FAMILIES[family], **stated}))
    except SpecError as error:
        raise CatalogError(f"{what}: {error}") from None


def model_aliases(name: str, row: Mapping[str, Any], *, where: str = "models.toml") -> tuple[str, ...]:
    """Other names of a row's model: of the same shape, by other training (Llama 3.3) or in other words.

    Raises CatalogError, naming the file, the row and the key.
    """
    aliases = row.get("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise CatalogError(f'{where}: model {name}: aliases={aliases!r}: must be a list of texts, like ["..."]')
    return tuple(aliases)


def trained_seq_len(name: str, row: Mapping[str, Any], *, where: str = "models.toml") -> int | None:
    """Tokens of a sequence in most of the model's own pre-training; None where the row does not say.

    Raises CatalogError, naming the file, the row and the key.
    """
    what, stated = f"{where}: model {name}", _TRAINED & set(row)
    if not stated:
        return None
    if missing := _TRAINED - stated:
        raise CatalogError(f"{what}: {missing.pop()} is missing; a training length is stated with where it was read")
    length, most = row["train_seq_len"], row["max_seq_len"]
    if not isinstance(length, int) or isinstance(length, bool) or not 1 <= length <= most:
        raise CatalogError(f"{what}: train_seq_len={length!r}: must be a whole number from 1 to max_seq_len={most}")
    return length


def trained_tokens_row(
    name: str, row: Mapping[str, Any], *, where: str = "models.toml"
) -> tuple[float, str, bool] | None:
    """Tokens of the model's own pre-training, where that was read, and whether it was; None where the row does not say.

    Raises CatalogError, naming the file, the row and the key.
    """
    what, stated = f"{where}: model {name}", _TOKENS & set(row)
    if not stated:
        return None
    if missing := sorted(_TOKENS - stated):
        raise CatalogError(f"{what}: {missing[0]} is missing; training tokens are stated with where they were read")
    n_tokens, source, verified = row["train_tokens"], row["train_tokens_source"], row["train_tokens_verified"]
    if isinstance(n_tokens, bool) or not isinstance(n_tokens, int | float) or not n_tokens > 0:
        raise CatalogError(f"{what}: train_tokens={n_tokens!r}: must be a number above 0")
    return float(n_tokens), str(source), bool(verified)


def _completed(what: str, shape: dict[str, Any]) -> dict[str, Any]:
    """With as many keys as queries and the width over the heads, where the row says nothing else."""
    if missing := [key for key in _REQUIRED if key not in shape]:
        raise CatalogError(f"{what}: {missing[0]} is missing")
    d_model, n_heads = shape["d_model"], shape["n_heads"]
    if "d_head" not in shape and (n_heads < 1 or d_model % n_heads):
        raise CatalogError(f"{what}: d_head is missing, and d_model={d_model} is not divisible by n_heads={n_heads}")
    return {"n_kv_heads": n_heads, **({} if "d_head" in shape else {"d_head": d_model // n_heads}), **shape}


def _value(what: str, key: str, value: Any) -> Any:
    """A value of a row in our types: tables become parts, lists tuples."""
    if key in _PARTS:
        return _part(what, key, value)
    if key == "norm":
        if value not in set(Norm):
            raise CatalogError(f"{what}: norm={value!r}: not one of {', '.join(Norm)}")
        return Norm(value)
    if key == "left_out":
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise CatalogError(f"{what}: left_out={value!r}: must be a list of words")
        return tuple(value)
    _check_type(what, key, value, ModelSpec)
    return value


def _part(what: str, key: str, value: Any) -> Any:
    part = _PARTS[key]
    if not isinstance(value, Mapping):
        raise CatalogError(f"{what}: {key}={value!r}: must be a table")
    known = [field.name for field in fields(part)]
    if unknown := sorted(set(value) - set(known)):
        raise CatalogError(f"{what}: unknown key {key}.{unknown[0]!r}; known are {', '.join(known)}")
    if missing := [f.name for f in fields(part) if f.default is MISSING and f.name not in value]:
        raise CatalogError(f"{what}: {key}.{missing[0]} is missing")
    for inner, number in value.items():
        _check_type(what, inner, number, part, prefix=f"{key}.")
    try:
        return part(**value)
    except SpecError as error:
        raise CatalogError(f"{what}: {key}: {error}") from None


def _check_type(what: str, key: str, value: Any, spec: type, prefix: str = "") -> None:
    """A whole number, a number, yes or no, or a word, as the field's annotation says."""
    annotation = next(str(field.type) for field in fields(spec) if field.name == key).removesuffix(" | None")
    expected = _TYPES[annotation]
    if not isinstance(value, expected) or (expected is not bool and isinstance(value, bool)):
        raise CatalogError(f"{what}: {prefix}{key}={value!r}: must be of type {annotation}")
