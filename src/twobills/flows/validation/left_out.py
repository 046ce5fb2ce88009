"""Errors of rows that the fit never saw: each source, or each family of chips, left out in turn.

This is what a user's own run should expect, where the fitted rows flatter the forecast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from twobills.flows.calibrate import fit
from twobills.flows.validation.rows import ThroughputRow
from twobills.flows.validation.score import Scored
from twobills.flows.validation.throughput import forecast_row
from twobills.specs.calibration import Calibration

Z95 = 1.6448536269514722


def source_of(row: ThroughputRow) -> str:
    """Who published a row."""
    return row.source


def family_of(row: ThroughputRow) -> str:
    """The hardware family of a row."""
    return row.cluster.chip.family or "unknown"


def left_out(rows: Sequence[ThroughputRow], start: Calibration, group: Callable[[ThroughputRow], str]) -> list[Scored]:
    """Every row, forecast by a calibration fitted without its group; a family left out gets the mean of the others."""
    scored: list[Scored] = []
    for name in sorted({group(row) for row in rows}):
        rest = [row for row in rows if group(row) != name]
        found = fit(rest, _without_family(start, name) if group is family_of else start)
        scored += [forecast_row(row, found) for row in rows if group(row) == name]
    return scored


def log_sigma(scored: Sequence[Scored]) -> float:
    """The standard deviation whose 5-95 % interval holds nine in ten of these errors."""
    return float(np.quantile([abs(np.log(row.forecast / row.measured)) for row in scored], 0.9)) / Z95


def _without_family(start: Calibration, family: str) -> Calibration:
    return replace(
        start,
        matmul_frac={name: frac for name, frac in start.matmul_frac.items() if name != family},
        attention_frac={name: frac for name, frac in start.attention_frac.items() if name != family},
    )
