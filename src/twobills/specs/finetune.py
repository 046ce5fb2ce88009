"""A fine-tuning job as a user writes it: the TOML file of a training job with a table ``[finetune]``.

out = "assistant"
data = "chats.jsonl"
[finetune]
base = "twobills-out/trained"
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from twobills.errors import RequestError
from twobills.specs.dtype import DType
from twobills.specs.limits import Limits
from twobills.specs.training import TrainingSpec

DEFAULTS: Mapping[str, Any] = {
    "optimizer": "adamw",
    "lr": 2e-4,
    "weight_decay": 0.0,
    "warmup_frac": 0.03,
    "cooldown_frac": 0.97,
}
"""Of ``[training]``: a gentle AdamW whose rate rises for a moment and then falls to the end."""
_TRAINING_KEYS = ("optimizer", "lr", "muon_lr", "weight_decay", "warmup_frac", "cooldown_frac", "accumulate", "compile")
_FINETUNE_KEYS = ("base", "epochs", "heldout")
_TOP_KEYS = ("out", "data", "batch_size", "seq_len", "seed", "usd_per_chip_hour", "finetune", "training", "limits")
_WHOLE = ("batch_size", "seq_len", "seed", "accumulate")
_PATHS = ("out", "data", "base", "heldout")


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneJob:
    """Which model to teach which answers, and where to put it."""

    out: Path
    """The model folder to write."""
    base: Path
    """The model folder to begin with, ours or any of Llama's or Qwen3's shape."""
    data: Path
    """Chats, one JSON object a line."""
    heldout: Path | None = None
    """Chats to be tested on; None holds back one in twenty of ``data``."""
    epochs: float = 3.0
    """Passes over the chats."""
    batch_size: int = 8
    """Sequences per step."""
    seq_len: int | None = None
    """The longest sequence, tokens; None: the base's context."""
    seed: int = 0
    usd_per_chip_hour: float | None = None
    """What you pay; None takes the catalogue's price."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of the fields of ``TrainingSpec``."""
    limits: Limits = field(default_factory=Limits)
    """Hard budgets; what was learned when one ends the run is kept."""

    def __post_init__(self) -> None:
        if not 0 < self.epochs < math.inf:
            raise RequestError(f"[finetune] epochs={self.epochs:g}: must be above 0")
        for name in ("batch_size", "seq_len"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RequestError(f"{name}={value}: must be at least 1")
        if not 0 <= self.seed < 2**63:
            raise RequestError(f"seed={self.seed}: must be between 0 and 2**63 - 1")
        if self.usd_per_chip_hour is not None and not 0 <= self.usd_per_chip_hour < math.inf:
            raise RequestError(f"usd_per_chip_hour={self.usd_per_chip_hour}: must be a number of dollars, 0 or more")
        if self.out == self.base:
            raise RequestError(f"out={self.out}: is the base itself; a frozen model is not changed, choose another out")
        self.spec(n_steps=1, seq_len=1, dtype=DType.FP32, heldout_tokens=0)

    def spec(self, *, n_steps: int, seq_len: int, dtype: DType, heldout_tokens: int) -> TrainingSpec:
        """How it is trained, once the chats and the machine are known."""
        return TrainingSpec(
            n_steps=n_steps,
            batch_size=self.batch_size,
            seq_len=seq_len,
            dtype=dtype,
            heldout_tokens=heldout_tokens,
            seed=self.seed,
            **{**DEFAULTS, **self.training},
        )


def finetune_from_document(document: Mapping[str, Any], path: Path) -> FinetuneJob:
    """The job of a TOML file that has a table ``[finetune]``. Raises RequestError for anything it does not know."""
    for key in ("finetune", "training", "limits"):
        if not isinstance(document.get(key, {}), dict):
            raise RequestError(f"{path}: {key}={document[key]!r}: must be a table")
    tuning, training, limits = (dict(document.get(key, {})) for key in ("finetune", "training", "limits"))
    _check_keys(f"{path}, with [finetune]", document, _TOP_KEYS)
    _check_keys(f"{path}: [finetune]", tuning, _FINETUNE_KEYS)
    _check_keys(f"{path}: [training]", training, _TRAINING_KEYS)
    _check_keys(f"{path}: [limits]", limits, tuple(limit.name for limit in fields(Limits)))
    flat = {key: value for key, value in document.items() if key not in ("finetune", "training", "limits")} | tuning
    for key, what in (("out", "model folder should go"), ("data", "chats are"), ("base", "model to begin with is")):
        if key not in flat:
            raise RequestError(f"{path}: {'[finetune] ' * (key == 'base')}{key} is missing; say where the {what}")
    for key in _PATHS:
        if key in flat:
            flat[key] = _path(path, key, flat[key])
    words = ("optimizer", "compile", *_PATHS)
    for key, value in {**flat, **training, **limits}.items():
        if key not in words:
            _check_number(path, key, value)
    return FinetuneJob(**flat, training=training, limits=Limits(**limits))


def _path(where: Path, key: str, value: Any) -> Path:
    if not isinstance(value, str) or not value:
        raise RequestError(f"{where}: {key}={value!r}: must be a path")
    return (where.parent / Path(value).expanduser()).resolve()


def _check_number(where: Path, key: str, value: Any) -> None:
    kinds: tuple[type, ...] = (int,) if key in _WHOLE else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise RequestError(f"{where}: {key}={value!r}: must be a {'whole ' * (key in _WHOLE)}number")


def _check_keys(where: str, document: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if unknown := [key for key in document if key not in known]:
        raise RequestError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
