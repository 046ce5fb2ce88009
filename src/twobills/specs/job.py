"""A training job as a user writes it: a TOML file or a few flags, every key known, everything else an error."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from twobills.errors import RequestError
from twobills.specs.data import DATA_KEYS, DataSpec, Modality, data_from_document
from twobills.specs.dtype import DType
from twobills.specs.job_shape import MODEL_KEYS, check_shape, said
from twobills.specs.limits import Limits
from twobills.specs.training import TrainingSpec

_NOT_NUMBERS: Mapping[str, type | tuple[type, ...]] = {
    "optimizer": str,
    "accumulate": int,
    "compile": (bool, str),
    "parallel": str,
}
"""Of the keys of ``[training]`` those that are not plain numbers."""
_TRAINING_KEYS = ("lr", "muon_lr", "weight_decay", "warmup_frac", "cooldown_frac", *_NOT_NUMBERS)
_NUMBERS: Mapping[str, type] = {
    "minutes": float,
    "steps": int,
    "tokens": float,
    "usd_per_chip_hour": float,
    "vocab_size": int,
    "batch_size": int,
    "seq_len": int,
    "seed": int,
    "checkpoint_every_s": float,
    "evaluate_every": int,
    "spike_sigmas": float,
}
HOW_KEYS = ("accumulate", "compile", "parallel")
"""Of ``[training]``: how a step is computed and not what it computes, so a resume may change them; other sums of the
same numbers have other last bits."""
_FREE_KEYS = ("out", "usd_per_chip_hour", "limits", "checkpoint_every_s", "evaluate_every", "watch")
"""Keys that a resume may change without being another run."""
_LIMITS = tuple(limit.name for limit in fields(Limits))
_LENGTHS = ("minutes", "steps", "tokens")
DEFAULT_SEQ_LEN = 256
TRAINED_DTYPES = (DType.BF16.value, DType.FP32.value)
WATCHERS = ("tensorboard", "trackio")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """What to train on what, for how long, and where to put it."""

    out: Path
    """The model folder to write."""
    data: DataSpec = field(default_factory=DataSpec)
    """What to learn from; by default the Python standard library's source."""
    minutes: float = 2.0
    """Planned minutes of training: the plan makes steps of them, once."""
    steps: int = 0
    """Optimiser steps; 0: as many as ``tokens`` or the minutes make."""
    tokens: float = 0
    """Tokens to train on, repeats included; 0: as many as the minutes allow."""
    vocab_size: int = 4096
    batch_size: int = 8
    """Sequences per step."""
    seq_len: int = DEFAULT_SEQ_LEN
    seed: int = 0
    dtype: str | None = None
    """Format of weights and activations at work, bf16 or fp32; None takes the faster one, as measured here."""
    usd_per_chip_hour: float | None = None
    """What you pay; None takes the catalogue's price."""
    model: Mapping[str, int | bool | str] = field(default_factory=dict)
    """The shape, by ``MODEL_KEYS``; empty lets the plan choose the size."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of the fields of ``TrainingSpec`` that ``_TRAINING_KEYS`` lists."""
    limits: Limits = field(default_factory=Limits)
    """Hard budgets; a resume may raise them."""
    checkpoint_every_s: float = 30.0
    """Seconds from one checkpoint to the next; longer where a checkpoint would cost more than 2 % of the time."""
    evaluate_every: int = 0
    """Steps from one look at held-out data to the next during training; 0: only after the last."""
    spike_sigmas: float = 6.0
    """An update is skipped if its loss is so many standard deviations above the last 128; 0: none is."""
    watch: tuple[str, ...] = ()
    """Where metrics go besides the run's own file: ``tensorboard``, ``trackio``."""

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= 60 * 24 * 30:
            raise RequestError(f"minutes={self.minutes:g}: must be above 0 and at most 43200")
        for name in ("steps", "tokens", "checkpoint_every_s", "evaluate_every", "spike_sigmas"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RequestError(f"{name}={getattr(self, name):g}: must be 0 or more")
        if 0 < self.tokens < self.batch_size * self.seq_len:
            raise RequestError(f"tokens={self.tokens:g}: less than one step of batch_size x seq_len tokens")
        images = self.data.modality is Modality.IMAGES  # which have a shape of their own, and as many tokens as levels
        if (self.steps or self.tokens) and not self.model and not images:
            raise RequestError("steps, tokens: give [model] too; only minutes let the plan choose the size")
        for name in self.watch:
            if name not in WATCHERS:
                raise RequestError(f"watch={name!r}: must be of {', '.join(WATCHERS)}")
        if not images and not 320 <= self.vocab_size <= 200_000:
            raise RequestError(f"vocab_size={self.vocab_size}: must be between 320 and 200000")
        for name in ("batch_size", "seq_len"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.dtype not in (None, *TRAINED_DTYPES):
            raise RequestError(f"dtype={self.dtype!r}: must be one of {', '.join(TRAINED_DTYPES)}")
        if not 0 <= self.seed < 2**63:
            raise RequestError(f"seed={self.seed}: must be between 0 and 2**63 - 1")
        if self.usd_per_chip_hour is not None and not 0 <= self.usd_per_chip_hour < math.inf:
            raise RequestError(f"usd_per_chip_hour={self.usd_per_chip_hour}: must be a number of dollars, 0 or more")
        _check_keys("[model]", self.model, MODEL_KEYS)
        check_shape(self.model)
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

    @property
    def length(self) -> str:
        """How long it trains, in words."""
        return (
            f"{self.steps} steps"
            if self.steps
            else f"{self.tokens:g} tokens"
            if self.tokens
            else f"{self.minutes:g} min"
        )

    def limited(self, **limits: float | None) -> TrainingJob:
        """The job with these limits in place of its own; None leaves one as it is."""
        return replace(self, limits=replace(self.limits, **{k: v for k, v in limits.items() if v is not None}))

    def identity(self) -> dict[str, str]:
        """What makes it this run and no other, as text, key by key: a resume must say the same."""
        same = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _FREE_KEYS}
        tables: dict[str, Mapping[str, Any]] = {name: same.pop(name) for name in ("model", "training")}
        tables["model"] = said(tables["model"])
        tables["data"] = asdict(same.pop("data"))
        for source in tables["data"]["sources"]:
            del source["path"]  # data may move: what it is, its tokens' digest says
        for name, table in tables.items():
            same |= {f"{name}.{key}": value for key, value in table.items() if key not in (*HOW_KEYS, "cache")}
        return {key: str(value) for key, value in same.items()}


def read_job(path: Path, overrides: Sequence[str] = ()) -> TrainingJob:
    """The job in a TOML file, with ``key=value`` overrides. Raises RequestError for anything it does not know."""
    return job_from_document(read_document(path, overrides), path)


def read_document(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a TOML file says, with ``key=value`` overrides. Raises RequestError if it is none."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: not TOML ({error})") from None
    for override in overrides:
        _apply(document, override)
    return document


def job_from_document(document: dict[str, Any], path: Path) -> TrainingJob:
    """The job that the document of the file ``path`` states."""
    known = dict.fromkeys([*(f.name for f in fields(TrainingJob)), *DATA_KEYS])
    _check_keys(str(path), document, known)
    if "out" not in document:
        raise RequestError(f"{path}: out is missing; say where the model folder should go")
    document["out"] = (path.parent / Path(str(document["out"]))).resolve()
    try:
        data = data_from_document(document, path.parent.resolve())
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
    document = {**{key: value for key, value in document.items() if key not in DATA_KEYS}, "data": data}
    for key in ("model", "training", "limits"):
        if not isinstance(document.get(key, {}), dict):
            raise RequestError(f"{path}: {key}={document[key]!r}: must be a table")
    for key, wanted in _NUMBERS.items():
        if key in document and not _is_number(document[key], wanted):
            whole = "whole " if wanted is int else ""
            raise RequestError(f"{path}: {key}={document[key]!r}: must be a {whole}number")
    if len(given := [key for key in _LENGTHS if document.get(key)]) > 1:
        raise RequestError(f"{path}: {' and '.join(given)}: give one of {', '.join(_LENGTHS)}")
    if "watch" in document:
        document["watch"] = tuple(document["watch"]) if isinstance(document["watch"], list) else (document["watch"],)
    document["limits"] = _limits(path, document.get("limits", {}))
    for key, value in document.get("training", {}).items():
        _check_training_value(path, key, value)
    return TrainingJob(**document)


def _limits(path: Path, table: Mapping[str, Any]) -> Limits:
    _check_keys(f"{path}: [limits]", table, _LIMITS)
    for key, value in table.items():
        if not _is_number(value, float):
            raise RequestError(f"{path}: limits.{key}={value!r}: must be a number")
    return Limits(**table)


def _check_training_value(path: Path, key: str, value: Any) -> None:
    wanted = _NOT_NUMBERS.get(key)
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
    if key in _LENGTHS:  # the length that is asked for replaces the file's, however that is given
        for other in _LENGTHS:
            document.pop(other, None)
    *tables, name = key.split(".")
    for table in tables:
        document = document.setdefault(table, {})
        if not isinstance(document, dict):
            raise RequestError(f"--set {override}: {table} is not a table")
    document[name] = value


def _check_keys(where: str, document: Mapping[str, Any], known: Sequence[str] | Mapping[str, Any]) -> None:
    if unknown := [key for key in document if key not in known]:
        raise RequestError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
