"""Hoffmann's other two ways to the best size, which assume no surface: lowest envelope, and parabolas at equal compute.

Approach 1: the loss of each size over compute as a curve; at each budget the lowest curve names the best size.
Approach 2: runs of one budget and several sizes; a parabola in ln N has its minimum at the best size.
Both end in N = k C^a by least squares. A minimum at the smallest or the largest size is none: it says only on which
side to add runs. Ref: Hoffmann et al. 2022, arXiv:2203.15556, sections 3.1 and 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from twobills.laws.runs import SAME_SIZE_LOG, Array, Runs

SAME_BUDGET_LOG = 0.08
"""Budgets within 8 % of the next are one IsoFLOP curve; what they differ is taken out by a slope."""
MIN_SIZES_PER_CURVE = 4
"""A parabola has three unknowns; fewer sizes cannot contradict it."""
_SAME_COMPUTE_LOG = 1e-3
_N_BUDGETS = 120


class IsoFlop(NamedTuple):
    """Runs of one budget."""

    compute_flops: float
    n_params: Array
    loss: Array
    """Moved to the curve's budget where the runs' budgets differ."""
    parabola: tuple[float, float, float] | None
    """ln L = p0 + p1 ln N + p2 (ln N)^2; None where the runs bend the wrong way."""
    best_params: float | None
    """None without an interior minimum."""
    best_loss: float | None
    side: str
    """Where the minimum lies: within, below or above the sizes, or unclear."""


class PowerLaw(NamedTuple):
    """N = coefficient C^exponent through the best sizes of several budgets."""

    coefficient: float
    exponent: float
    n_points: int

    def n_params(self, compute_flops: float) -> float:
        """The best size for a budget."""
        return float(self.coefficient * compute_flops**self.exponent)


class Envelope(NamedTuple):
    """The lowest of the sizes' curves."""

    compute_flops: Array
    n_params: Array
    loss: Array


def isoflops(runs: Runs) -> list[IsoFlop]:
    """One entry for each budget with runs of at least 4 sizes, the smallest budget first."""
    order = np.argsort(runs.compute_flops, kind="stable")
    cuts = np.flatnonzero(np.diff(np.log(runs.compute_flops[order])) > SAME_BUDGET_LOG) + 1
    groups = (runs.take(_mask(which, len(runs))) for which in np.split(order, cuts))
    return [_isoflop(group) for group in groups if _n_sizes(group) >= MIN_SIZES_PER_CURVE]


def isoflop_law(curves: Sequence[IsoFlop]) -> PowerLaw | None:
    """Through the interior minima; None for fewer than two budgets."""
    inside = [(curve.compute_flops, curve.best_params) for curve in curves if curve.best_params]
    return _power_law(np.array([c for c, _ in inside]), np.array([n for _, n in inside]))


def envelope(runs: Runs) -> Envelope | None:
    """The best size at each budget that at least 3 sizes' curves cover and whose best is not the first or the last.

    Each size's runs are a curve of ln L over ln C, straight between runs. None where no budget is so covered.
    """
    curves = _curves(runs)
    if len(curves) < 3:
        return None
    budgets = np.linspace(np.log(runs.compute_flops.min()), np.log(runs.compute_flops.max()), _N_BUDGETS)
    losses = np.stack([np.interp(budgets, c, y, left=np.inf, right=np.inf) for _, c, y in curves])
    n_params = np.array([n for n, _, _ in curves])
    best = losses.argmin(0)
    covered = np.isfinite(losses)
    inside = [
        i
        for i in range(_N_BUDGETS)
        if covered[:, i].sum() >= 3 and covered[: best[i], i].any() and covered[best[i] + 1 :, i].any()
    ]
    if not inside:
        return None
    return Envelope(np.exp(budgets[inside]), n_params[best[inside]], np.exp(losses.min(0)[inside]))


def envelope_law(found: Envelope | None) -> PowerLaw | None:
    """Through the sizes of the envelope; None for fewer than two of them."""
    if found is None or len(np.unique(found.n_params)) < 2:
        return None
    return _power_law(found.compute_flops, found.n_params)


def _isoflop(group: Runs) -> IsoFlop:
    budget = float(np.exp(np.median(np.log(group.compute_flops))))
    x, c, y = np.log(group.n_params), np.log(group.compute_flops / budget), np.log(group.loss)
    columns = [np.ones_like(x), x - x.mean(), (x - x.mean()) ** 2]
    if np.ptp(c) > _SAME_COMPUTE_LOG and len(x) > len(columns) + 1:
        columns.append(c)
    found = np.linalg.lstsq(np.stack(columns, 1), y, rcond=None)[0]
    moved = y - found[3] * c if len(columns) == 4 else y
    p0, p1, p2 = (float(v) for v in found[:3])
    parabola = (p0 - p1 * x.mean() + p2 * x.mean() ** 2, p1 - 2 * p2 * x.mean(), p2)
    side, best = _minimum(x, moved, p1, p2)
    return IsoFlop(
        compute_flops=budget,
        n_params=group.n_params,
        loss=np.exp(moved),
        parabola=tuple(map(float, parabola)) if p2 > 0 else None,  # type: ignore[arg-type]
        best_params=math.exp(best) if best is not None else None,
        best_loss=math.exp(p0 - p1**2 / (4 * p2)) if best is not None else None,
        side=side,
    )


def _minimum(x: Array, y: Array, p1: float, p2: float) -> tuple[str, float | None]:
    """On which side of the sizes the lowest loss lies, and where if within."""
    if p2 <= 0:
        lowest = x[y.argmin()]
        return ("below" if lowest == x.min() else "above" if lowest == x.max() else "unclear"), None
    best = float(x.mean() - p1 / (2 * p2))
    return ("below", None) if best <= x.min() else ("above", None) if best >= x.max() else ("within", best)


def _curves(runs: Runs) -> list[tuple[float, Array, Array]]:
    """Each size with at least two runs: its parameters, ln C ascending, ln L."""
    order = np.argsort(runs.n_params, kind="stable")
    cuts = np.flatnonzero(np.diff(np.log(runs.n_params[order])) > SAME_SIZE_LOG) + 1
    found = []
    for which in np.split(order, cuts):
        if len(which) >= 2:
            which = which[np.argsort(runs.compute_flops[which], kind="stable")]
            middle = float(np.exp(np.log(runs.n_params[which]).mean()))
            found.append((middle, np.log(runs.compute_flops[which]), np.log(runs.loss[which])))
    return found


def _power_law(compute_flops: Array, n_params: Array) -> PowerLaw | None:
    if len(compute_flops) < 2:
        return None
    exponent, intercept = np.polyfit(np.log(compute_flops), np.log(n_params), 1)
    return PowerLaw(float(np.exp(intercept)), float(exponent), len(compute_flops))


def _mask(which: np.ndarray[tuple[int], np.dtype[np.int64]], n: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    mask = np.zeros(n, dtype=bool)
    mask[which] = True
    return mask


def _n_sizes(group: Runs) -> int:
    return 1 + int((np.diff(np.sort(np.log(group.n_params))) > SAME_SIZE_LOG).sum())
