"""How far forecasts miss: the same figures for every table.

The error of a row is forecast / measured - 1, of throughput or of chip-hours, so 0.1 is a forecast 10 % too high.
Medians and quantiles, because a table holds a few rows that no physics explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Scored(NamedTuple):
    """One row: what was forecast, with its interval, and what was measured."""

    source: str
    name: str
    chip: str
    n_chips: int
    forecast: float
    p5: float
    p95: float
    measured: float
    detail: dict[str, Any]

    @property
    def error(self) -> float:
        """forecast / measured - 1."""
        return self.forecast / self.measured - 1

    @property
    def covered(self) -> bool:
        """Whether the interval holds what was measured."""
        return self.p5 <= self.measured <= self.p95

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "source": self.source,
            "model": self.name,
            "chip": self.chip,
            "n_chips": self.n_chips,
            "forecast": {"value": self.forecast, "p5": self.p5, "p95": self.p95},
            "measured": self.measured,
            "rel_error": self.error,
            "covered": self.covered,
            **self.detail,
        }


class Score(NamedTuple):
    """Of a set of rows."""

    n: int
    median_abs_rel_error: float
    p90_abs_rel_error: float
    bias: float
    """Median signed error."""
    coverage_90: float
    """Share of rows whose measurement lies in the 5-95 % interval."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return self._asdict()


def score(rows: Sequence[Scored]) -> Score:
    """The figures of at least one row."""
    errors = np.array([row.error for row in rows])
    size = np.abs(errors)
    return Score(
        n=len(rows),
        median_abs_rel_error=float(np.median(size)),
        p90_abs_rel_error=float(np.quantile(size, 0.9)),
        bias=float(np.median(errors)),
        coverage_90=float(np.mean([row.covered for row in rows])),
    )


def score_by(rows: Sequence[Scored], field: str) -> dict[str, Score]:
    """A score for each value of ``source``, ``name`` or ``chip``, in order."""
    values = sorted({getattr(row, field) for row in rows})
    return {value: score([row for row in rows if getattr(row, field) == value]) for value in values}


def within(rows: Sequence[Scored], factor: float) -> float:
    """Share of rows whose forecast is within ``factor`` of the measurement, either way."""
    return float(np.mean([1 / factor <= row.forecast / row.measured <= factor for row in rows]))
