"""How a training step is spread over chips: degrees of parallelism, what is sharded, what is computed again.

Ranks are laid out as real launchers do it: tensor parallelism innermost, then context, then data (within which experts
are spread), pipeline stages outermost. With tensor parallelism, sequence parallelism is always on (norms and
residuals are split over the same ranks).
Ref: Narayanan et al. 2021 (arXiv:2104.04473); Rajbhandari et al. 2020, ZeRO (arXiv:1910.02054); Korthikanti et al.
2022 (arXiv:2205.05198).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from twobills.errors import SpecError


class Zero(IntEnum):
    """What data-parallel ranks share out instead of each holding it: ZeRO's stages."""

    NOTHING = 0
    OPTIMISER = 1
    GRADIENTS = 2
    PARAMETERS = 3
    """Also called FSDP; HSDP when ``shard`` is a part of the data-parallel ranks."""


class Recompute(IntEnum):
    """What backward computes again instead of reading it."""

    NONE = 0
    SELECTIVE = 1
    """Everything cheap: norms, activation functions, attention's inside, latent attention's ways up."""
    FULL = 2
    """Each layer from its input."""


class Stack(StrEnum):
    """Software that runs the step, as far as it changes how much is moved and what is hidden."""

    EARLY = "early"
    """Megatron-LM and its like before flash attention (to 2022): attention's square is written to memory and read."""
    EAGER = "eager"
    """PyTorch operator by operator, with a flash attention kernel."""
    COMPILED = "compiled"
    """PyTorch or XLA with a compiler that fuses elementwise chains."""
    FUSED = "fused"
    """Hand-fused kernels (Megatron-LM); tensor-parallel transfers wait."""
    OVERLAPPED = "overlapped"
    """Hand-fused kernels whose transfers run beside the products (Transformer Engine, NeMo, MegaScale)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelSpec:
    """One plan. ``dp`` counts replicas of the data, so chips = dp x tp x pp x cp; ``ep`` divides dp x cp."""

    dp: int
    tp: int = 1
    pp: int = 1
    cp: int = 1
    ep: int = 1
    zero: Zero = Zero.OPTIMISER
    shard: int | None = None
    """Ranks that share out one copy; None: all of dp x cp."""
    interleave: int = 1
    """Pieces of the model per pipeline stage."""
    micro_batch: int = 1
    """Sequences that one replica runs at once."""
    recompute: Recompute = Recompute.NONE

    def __post_init__(self) -> None:
        for field in ("dp", "tp", "pp", "cp", "ep", "interleave", "micro_batch"):
            if getattr(self, field) < 1:
                raise SpecError(f"{field}={getattr(self, field)}: must be at least 1")
        replicas = self.dp * self.cp
        if replicas % self.ep:
            raise SpecError(f"ep={self.ep}: must divide dp x cp = {replicas}")
        if self.shard is not None and (self.shard < 1 or replicas % self.shard):
            raise SpecError(f"shard={self.shard}: must divide dp x cp = {replicas}")
        if self.interleave > 1 and self.pp == 1:
            raise SpecError(f"interleave={self.interleave}: needs pipeline stages, but pp=1")

    @property
    def n_chips(self) -> int:
        """Chips that the plan takes."""
        return self.dp * self.tp * self.pp * self.cp

    def describe(self) -> str:
        """The plan in one line, what is 1 left out."""
        degrees = {"tp": self.tp, "pp": self.pp, "cp": self.cp, "ep": self.ep, "dp": self.dp}
        parts = [f"{name}{n}" for name, n in degrees.items() if n > 1] or ["one chip"]
        if self.interleave > 1:
            parts.append(f"interleave {self.interleave}")
        if self.dp * self.cp > 1 and self.zero:
            parts.append(f"ZeRO-{self.zero.value}" + (f" over {self.shard}" if self.shard else ""))
        parts.append(f"micro-batch {self.micro_batch}")
        parts.append(f"{self.recompute.name.lower()} recomputation" if self.recompute else "nothing recomputed")
        return ", ".join(parts)
