"""What a flow tells while it works. The command line draws it; a test or a notebook can ignore it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class TrainingProgress(NamedTuple):
    """Where training is."""

    step: int
    n_steps: int
    loss: float
    tokens_per_s: float
    mfu: float
    usd: float
    remaining_s: float
    progress: float
    """0 to 1."""


class Listener:
    """Hears everything and does nothing; override what you want to show."""

    def stage(self, text: str) -> None:
        """A part of the work begins."""

    def found(self, part: str, document: Mapping[str, Any]) -> None:
        """A part of the result exists: ``machine``, ``plan``, ``data``, ``quality``, ``requests``, ``bills`` ..."""

    def preparing(self, done: int, total: int) -> None:
        """So many bytes of the data have become tokens."""

    def training(self, progress: TrainingProgress) -> None:
        """A step was done."""

    def serving(self, done: int, total: int) -> None:
        """So many of the requests have been answered."""
