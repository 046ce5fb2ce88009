"""What was physically used: FLOPs, bytes, chip-seconds, joules and tokens, phase by phase.

A usage is additive and knows no money. Whether it was predicted by a plan, simulated or measured by a meter, it
is this one type, so that plan and meter can be subtracted. Bytes are counted from what executed (no counter
reads them on most machines); joules carry a stamp that says how they came about, and sums keep the stamps apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from twobills.errors import UsageError


class Job(StrEnum):
    """The two jobs of a model, one bill each."""

    TRAINING = "training"
    INFERENCE = "inference"


class Origin(StrEnum):
    """Where a usage comes from."""

    PREDICTED = "predicted"
    SIMULATED = "simulated"
    MEASURED = "measured"


class Phase(StrEnum):
    """What the machine was doing. The first five belong to training, the others to inference."""

    PRETRAIN = "pretrain"
    FINETUNE = "finetune"
    DISTILL = "distill"
    EVALUATE = "evaluate"
    LOST = "lost"
    PREFILL = "prefill"
    DECODE = "decode"
    DRAFT = "draft"
    IDLE = "idle"


PHASES: Mapping[Job, tuple[Phase, ...]] = {
    Job.TRAINING: (Phase.PRETRAIN, Phase.FINETUNE, Phase.DISTILL, Phase.EVALUATE, Phase.LOST),
    Job.INFERENCE: (Phase.PREFILL, Phase.DECODE, Phase.DRAFT, Phase.IDLE),
}


class Stamp(StrEnum):
    """How a joule figure came about, best first: counter read, inferred from other readings, watts x time."""

    MEASURED = "measured"
    ESTIMATED = "estimated"
    DECLARED = "declared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Joules, kept apart by how they came about, so that no sum hides a guess."""

    measured_j: float = 0.0
    estimated_j: float = 0.0
    declared_j: float = 0.0

    @classmethod
    def of(cls, joules: float, stamp: Stamp) -> Energy:
        """So many joules with this stamp."""
        return cls(**{f"{stamp.value}_j": joules})

    @property
    def total_j(self) -> float:
        """All joules; show it only beside ``stamp``."""
        return self.measured_j + self.estimated_j + self.declared_j

    @property
    def stamp(self) -> Stamp | None:
        """The weakest stamp among the joules, None if there are none."""
        return next((s for s in reversed(Stamp) if getattr(self, f"{s.value}_j")), None)

    def __add__(self, other: Energy) -> Energy:
        return Energy(
            measured_j=self.measured_j + other.measured_j,
            estimated_j=self.estimated_j + other.estimated_j,
            declared_j=self.declared_j + other.declared_j,
        )

    def scaled(self, factor: float) -> Energy:
        """The same mixture, ``factor`` times as much."""
        return Energy(
            measured_j=self.measured_j * factor,
            estimated_j=self.estimated_j * factor,
            declared_j=self.declared_j * factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseUsage:
    """What one phase used. ``tokens`` is its work: 0 for phases that do none (``idle``, ``lost``)."""

    tokens: float = 0.0
    flops: float = 0.0
    """Executed FLOPs, a multiply-add being 2: matrix products only, recomputation and padding included."""
    bytes: float = 0.0
    """Bytes to and from memory, counted from the operations that ran."""
    chip_s: float = 0.0
    """Chip-seconds reserved: wall seconds x chips (on a CPU a chip is a core)."""
    energy: Energy = field(default_factory=Energy)

    def __add__(self, other: PhaseUsage) -> PhaseUsage:
        return PhaseUsage(
            tokens=self.tokens + other.tokens,
            flops=self.flops + other.flops,
            bytes=self.bytes + other.bytes,
            chip_s=self.chip_s + other.chip_s,
            energy=self.energy + other.energy,
        )

    def scaled(self, factor: float) -> PhaseUsage:
        """The same usage, ``factor`` times as much."""
        return PhaseUsage(
            tokens=self.tokens * factor,
            flops=self.flops * factor,
            bytes=self.bytes * factor,
            chip_s=self.chip_s * factor,
            energy=self.energy.scaled(factor),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one job used, by phase. Two usages of one job and one origin add."""

    job: Job
    origin: Origin
    phases: Mapping[Phase, PhaseUsage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for phase in self.phases:
            if phase not in PHASES[self.job]:
                raise UsageError(f"phase {phase}: not a phase of {self.job}; those are {', '.join(PHASES[self.job])}")

    def __add__(self, other: Usage) -> Usage:
        if (self.job, self.origin) != (other.job, other.origin):
            raise UsageError(
                f"usages do not add: {self.origin} {self.job} and {other.origin} {other.job}; "
                "add like to like, and reconcile a plan with a meter"
            )
        phases = {
            p: self.phases.get(p, PhaseUsage()) + other.phases.get(p, PhaseUsage())
            for p in PHASES[self.job]
            if p in self.phases or p in other.phases
        }
        return Usage(job=self.job, origin=self.origin, phases=phases)

    @property
    def total(self) -> PhaseUsage:
        """All phases together."""
        return sum(self.phases.values(), PhaseUsage())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, base units in the key names."""
        return {
            "job": self.job.value,
            "origin": self.origin.value,
            "phases": {phase.value: phase_to_json(u) for phase, u in self.phases.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Usage:
        """The usage that ``to_json`` wrote."""
        phases = {Phase(name): _phase_from_json(body) for name, body in document["phases"].items()}
        return cls(job=Job(document["job"]), origin=Origin(document["origin"]), phases=phases)


def phase_to_json(usage: PhaseUsage) -> dict[str, Any]:
    """One phase as plain JSON; the joules keep their stamps."""
    energy = usage.energy
    return {
        "tokens": usage.tokens,
        "flops": usage.flops,
        "bytes": usage.bytes,
        "chip_s": usage.chip_s,
        "energy": {
            "total_j": energy.total_j,
            "stamp": energy.stamp.value if energy.stamp else None,
            "measured_j": energy.measured_j,
            "estimated_j": energy.estimated_j,
            "declared_j": energy.declared_j,
        },
    }


def _phase_from_json(body: Mapping[str, Any]) -> PhaseUsage:
    energy = {f"{stamp.value}_j": body["energy"][f"{stamp.value}_j"] for stamp in Stamp}
    work = {key: body[key] for key in ("tokens", "flops", "bytes", "chip_s")}
    return PhaseUsage(**work, energy=Energy(**energy))
