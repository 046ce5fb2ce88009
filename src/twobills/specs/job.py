"""A training job as a user writes it: a TOML file or a few flags, every key known, everything else an error."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from twobills.errors import RequestError
from twobills.specs.dtype import DType
from twobills.specs.training import TrainingSpec

_MODEL_KEYS = ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_head", "d_ff")
_TRAINING_KEYS = ("lr", "muon_lr", "weight_decay", "warmup_frac", "cooldown_frac", "optimizer", "accumulate", "compile")
_TRAINING_TYPES: Mapping[str, type | tuple[type, ...]] = {"optimizer": str, "accumulate": int, "compile": (bool, str)}
"""Of the keys of ``[training]`` that are not plain numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """What to train on what, for how long, and where to put it."""

    out: Path
    """The model folder to write."""
    data: Path | None = None
    """A file or folder; None is the Python standard library's source."""
    minutes: float = 2.0
    """Planned minutes of training."""
    vocab_size: int = 4096
    batch_size: int = 8
    """Sequences per step."""
    seq_len: int = 256
    seed: int = 0
    usd_per_chip_hour: float | None = None
    """What you pay; None takes the catalogue's price."""
    model: Mapping[str, int] = field(default_factory=dict)
    """The shape (n_layers, d_model, n_heads, n_kv_heads, d_head, d_ff); empty lets the plan choose the size."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of the fields of ``TrainingSpec`` that ``_TRAINING_KEYS`` lists."""

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= 60 * 24 * 30:
            raise RequestError(f"minutes={self.minutes:g}: must be above 0 and at most 43200")
        if not 320 <= self.vocab_size <= 200_000:
            raise RequestError(f"vocab_size={self.vocab_size}: must be between 320 and 200000")
        for name in ("batch_size", "seq_len"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name}={getattr(self, name)}: must be at least 1")
        if not 0 <= self.seed < 2**63:
            raise RequestError(f"seed={self.seed}: must be between 0 and 2**63 - 1")
        if self.usd_per_chip_hour is not None and not 0 <= self.usd_per_chip_hour < math.inf:
            raise RequestError(f"usd_per_chip_hour={self.usd_per_chip_hour}: must be a number of dollars, 0 or more")
        _check_keys("[model]", self.model, _MODEL_KEYS)
        _check_keys("[training]", self.training, _TRAINING_KEYS)
        TrainingSpec(
            n_steps=1,
            batch_size=self.batch_size,
            seq_len=self.seq_len,
            dtype=DType.FP32,
            heldout_tokens=0,
            seed=self.seed,
            **self.training,
        )
        if self.model and (missing := [key for key in _MODEL_KEYS if key not in self.model and key != "d_head"]):
            raise RequestError(
                f"[model]: {missing[0]} is missing; give the whole shape, or none to let the plan choose"
            )


def read_job(path: Path, overrides: Sequence[str] = ()) -> TrainingJob:
    """The job in a TOML file, with ``key=value`` overrides. Raises RequestError for anything it does not know."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: not TOML ({error})") from None
    for override in overrides:
        _apply(document, override)
    known = {f.name: f for f in fields(TrainingJob)}
    _check_keys(str(path), document, known)
    if "out" not in document:
        raise RequestError(f"{path}: out is missing; say where the model folder should go")
    for key in ("out", "data"):
        if key in document:
            document[key] = (path.parent / Path(str(document[key]))).resolve()
    for key in ("model", "training"):
        if not isinstance(document.get(key, {}), dict):
            raise RequestError(f"{path}: {key}={document[key]!r}: must be a table")
    for key, wanted in (
        ("minutes", float),
        ("usd_per_chip_hour", float),
        ("vocab_size", int),
        ("batch_size", int),
    ):
        if key in document and not _is_number(document[key], wanted):
            raise RequestError(f"{path}: {key}={document[key]!r}: must be a number")
    for key in ("seq_len", "seed"):
        if key in document and not _is_number(document[key], int):
            raise RequestError(f"{path}: {key}={document[key]!r}: must be a whole number")
    for key, value in document.get("model", {}).items():
        if not _is_number(value, int):
            raise RequestError(f"{path}: model.{key}={value!r}: must be a number")
    for key, value in document.get("training", {}).items():
        _check_training_value(path, key, value)
    return TrainingJob(**document)


def _check_training_value(path: Path, key: str, value: Any) -> None:
    wanted = _TRAINING_TYPES.get(key)
    if wanted is None and not _is_number(value, float):
        raise RequestError(f"{path}: training.{key}={value!r}: must be a number")
    if wanted is int and not _is_number(value, int):
        raise RequestError(f"{path}: training.{key}={value!r}: must be a whole number")
    if wanted not in (None, int) and not isinstance(value, wanted or ()):
        raise RequestError(f"{path}: training.{key}={value!r}: must be one of the words that it knows")


def _is_number(value: Any, wanted: type) -> bool:
    return isinstance(value, int if wanted is int else (int, float)) and not isinstance(value, bool)


def _apply(document: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise RequestError(f"--set {override}: must be key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, name = key.split(".")
    for table in tables:
        document = document.setdefault(table, {})
        if not isinstance(document, dict):
            raise RequestError(f"--set {override}: {table} is not a table")
    document[name] = value


def _check_keys(where: str, document: Mapping[str, Any], known: Sequence[str] | Mapping[str, Any]) -> None:
    if unknown := [key for key in document if key not in known]:
        raise RequestError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
