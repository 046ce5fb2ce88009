"""A sweep as a user asks for it: budgets of training FLOPs, how many sizes at each, on what data, and where it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path

from twobills.errors import RequestError
from twobills.specs.data import DataSpec
from twobills.specs.limits import Limits

MIN_SIZES = 4
"""Fewer sizes show no minimum: a parabola through three cannot be contradicted."""
BUDGETS_FLOPS = (2e12, 5e12, 1.4e13, 4e13)
"""About an hour of one CPU core in all, extensions included."""
_APART = 1.25
"""Budgets closer than this factor are one IsoFLOP curve to the fit, or nearly so."""
_FREE = ("out", "workers", "limits", "max_cells", "usd_per_chip_hour")
"""What a resume may change: it decides no cell's result."""
_OPTIONS = {"budgets_flops": "--budgets", "n_sizes": "--sizes"}
"""The fields whose options have other names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSpec:
    """Which runs a law is to be fitted to."""

    out: Path
    """The folder of the sweep: cells, tokens, run table, fit."""
    data: DataSpec = field(default_factory=DataSpec)
    budgets_flops: tuple[float, ...] = BUDGETS_FLOPS
    """Model FLOPs of each IsoFLOP curve, counted with attention; ascending."""
    n_sizes: int = 5
    """Sizes at each budget, before a curve without a minimum gets more."""
    vocab_size: int = 512
    """Small, so that the embedding does not outweigh the layers of the smallest sizes."""
    seq_len: int = 128
    seed: int = 0
    dtype: str | None = None
    """bf16 or fp32; None takes the faster one, as measured here when the sweep begins."""
    workers: int = 0
    """Cells at a time; 0: one for each core, or for each GPU."""
    max_cells: int | None = None
    """Cells in all, those of extensions included; None: as many as it takes."""
    limits: Limits = field(default_factory=Limits)
    """Of all cells together; seconds are those of the cells, added up."""
    usd_per_chip_hour: float | None = None

    def __post_init__(self) -> None:
        if not self.budgets_flops:
            raise RequestError("--budgets: give at least one, in FLOPs, like 1e12,3e12,1e13")
        for budget in self.budgets_flops:
            if not 1e6 <= budget <= 1e24:
                raise RequestError(f"--budgets {budget:g}: must be between 1e6 and 1e24 FLOPs")
        for less, more in zip(self.budgets_flops, self.budgets_flops[1:], strict=False):
            if more < _APART * less:
                raise RequestError(f"--budgets {less:g},{more:g}: must ascend, each at least {_APART} times the last")
        if not MIN_SIZES <= self.n_sizes <= 12:
            raise RequestError(f"--sizes {self.n_sizes}: must be between {MIN_SIZES} and 12")
        if not 320 <= self.vocab_size <= 200_000:
            raise RequestError(f"--vocab-size {self.vocab_size}: must be between 320 and 200000")
        if not 8 <= self.seq_len <= 65_536:
            raise RequestError(f"--seq-len {self.seq_len}: must be between 8 and 65536")
        if not 0 <= self.seed < 2**63:
            raise RequestError(f"--seed {self.seed}: must be between 0 and 2**63 - 1")
        if self.dtype not in (None, "bf16", "fp32"):
            raise RequestError(f"--dtype {self.dtype}: must be bf16 or fp32")
        if not 0 <= self.workers <= 1024:
            raise RequestError(f"--workers {self.workers}: must be between 1 and 1024; leave it out for one per core")
        if self.max_cells is not None and self.max_cells < 1:
            raise RequestError(f"--max-cells {self.max_cells}: must be at least 1")
        if self.usd_per_chip_hour is not None and not 0 <= self.usd_per_chip_hour < math.inf:
            raise RequestError(f"--usd-per-chip-hour {self.usd_per_chip_hour}: must be a number of dollars, 0 or more")

    @staticmethod
    def option(name: str) -> str:
        """The option that gives a field."""
        return _OPTIONS.get(name, f"--{name.replace('_', '-')}")

    def identity(self) -> dict[str, str]:
        """What makes it this sweep and no other, as text."""
        return {each.name: str(getattr(self, each.name)) for each in fields(self) if each.name not in _FREE}
