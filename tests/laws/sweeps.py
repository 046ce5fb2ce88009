"""Sweeps drawn from a law that is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twobills.laws.forms import Law, loss
from twobills.laws.optimum import optimum
from twobills.laws.runs import Runs, read_runs

BUDGETS = (1e18, 3e18, 1e19, 3e19, 1e20)


def sweep(
    law: Law,
    *,
    budgets: Sequence[float] = BUDGETS,
    factors: Sequence[float] = (0.2, 0.4, 0.7, 1.0, 1.6, 2.8, 5.0),
    noise: float = 0.0,
    seed: int = 0,
) -> Runs:
    """At each budget, sizes of so many times the best."""
    rng = np.random.default_rng(seed)
    points = [(f * optimum(law, c).n_params, c) for c in budgets for f in factors]
    losses = [loss(law, n, c / (6 * n)) * float(np.exp(rng.normal(0, noise))) for n, c in points]
    columns = {"n_params": [n for n, _ in points], "compute_flops": [c for _, c in points], "loss": losses}
    return read_runs(columns, range(2, len(points) + 2), "sweep")


def grid(law: Law, sizes: Sequence[float], budgets: Sequence[float]) -> Runs:
    """Every size at every budget."""
    points = [(n, c) for n in sizes for c in budgets]
    losses = [loss(law, n, c / (6 * n)) for n, c in points]
    columns = {"n_params": [n for n, _ in points], "compute_flops": [c for _, c in points], "loss": losses}
    return read_runs(columns, range(2, len(points) + 2), "grid")


def together(*parts: Runs) -> Runs:
    """All runs of several sweeps."""
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts]).tolist()
        for name in ("n_params", "n_tokens", "compute_flops", "loss")
    }
    return read_runs(columns, range(2, len(columns["loss"]) + 2), "sweeps")
