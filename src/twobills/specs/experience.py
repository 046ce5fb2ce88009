"""What a machine's own metered runs said of its forecasts: how many times longer each part of a job took than forecast.

Kept apart from ``Efficiency``, which is measured anew before each plan by timing single operations: that sees how fast
the machine is today, this what such timings leave out (the work between operations, caches, busy neighbours).
``ledger.calibration`` learns it from the ledger; ``perf`` and ``plan`` apply it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from twobills.errors import SpecError


class Part(StrEnum):
    """Parts of a job whose forecasts miss for reasons of their own."""

    PREPARE = "prepare"
    """Training's seconds outside its steps: vocabulary, encoding, freezing."""
    STEP = "step"
    """The optimiser steps."""
    EVALUATE = "evaluate"
    PREFILL = "prefill"
    DECODE = "decode"
    IDLE = "idle"
    """Starting the server and waiting for requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobExperience:
    """Of one of the two jobs on one machine."""

    n_runs: int
    slower: Mapping[Part, float]
    """Measured over forecast seconds of the same work; a part that is not here took as long as forecast."""
    log_sigma: float
    """Standard deviation of ln(actual / forecast) that is left, wide enough for so few runs."""
    assumed_log_sigma: float
    """What was assumed before there were runs."""

    def __post_init__(self) -> None:
        figures = {part.value: factor for part, factor in self.slower.items()}
        for name, figure in [*figures.items(), ("log_sigma", self.log_sigma)]:
            if not (figure > 0 and math.isfinite(figure)):
                raise SpecError(f"{name}={figure}: must be a number above 0")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "slower": {part.value: factor for part, factor in self.slower.items()}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> JobExperience:
        """What ``to_json`` wrote."""
        return cls(**{**document, "slower": {Part(name): factor for name, factor in document["slower"].items()}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """Of both jobs; None where too few runs were metered."""

    training: JobExperience | None = None
    inference: JobExperience | None = None
    _slower: Mapping[Part, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = [job.slower for job in (self.training, self.inference) if job]
        object.__setattr__(self, "_slower", {part: factor for slower in known for part, factor in slower.items()})

    def slower(self, part: Part) -> float:
        """How many times longer this part takes than forecast; 1 where nothing was learned."""
        return self._slower.get(part, 1.0)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, the jobs by name, null where nothing was learned."""
        return {
            "training": self.training.to_json() if self.training else None,
            "inference": self.inference.to_json() if self.inference else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Experience:
        """What ``to_json`` wrote."""
        return cls(**{name: JobExperience.from_json(job) if job else None for name, job in document.items()})
