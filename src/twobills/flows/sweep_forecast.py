"""The largest budget's optimum and loss, predicted from the smaller budgets' runs, and what its runs then showed."""

from __future__ import annotations

from typing import Any

import numpy as np

from twobills.counts.flops import train_flops_per_token
from twobills.counts.params import count_params
from twobills.errors import DataError, SpecError
from twobills.flows.laws_fit import FitRequest, fit_runs
from twobills.laws.approaches import MIN_SIZES_PER_CURVE, isoflops
from twobills.laws.counted import counted_optimum, tokens_at
from twobills.laws.forms import Interval, Law
from twobills.laws.objective import N_PARAMETERS
from twobills.laws.optimum import Optimum, optimum_intervals
from twobills.laws.runs import Array, Runs
from twobills.plan.sweep import ladder
from twobills.specs.sweep import SweepSpec

N_BOOTSTRAPS = 1000
FIGURES = ("n_params", "n_tokens", "loss")


def predict(spec: SweepSpec, runs: Runs, budget_flops: float, *, seed: int = 42) -> dict[str, Any]:
    """The optimum at a budget by the surface fitted to ``runs``, with 90 % intervals, and by their parabolas."""
    n_params, per_token = sizes_of(spec)
    try:
        if len(runs) <= N_PARAMETERS:
            raise DataError(f"{len(runs)} runs do not determine {N_PARAMETERS} constants")
        found = fit_runs(runs, FitRequest(n_bootstraps=N_BOOTSTRAPS, seed=seed, budget_flops=budget_flops))
    except (DataError, SpecError) as error:
        return {"budget_flops": budget_flops, "n_runs": len(runs), "surface": None, "reason": str(error)}

    def best(law: Law) -> Optimum:
        return counted_optimum(law, budget_flops, n_params, per_token)

    figures = optimum_intervals(found.law, found.draws.laws(found.law) if found.draws else [], best)
    parabolas = None
    if found.isoflop:
        size = found.isoflop.n_params(budget_flops)
        tokens = tokens_at(budget_flops, size, n_params, per_token)
        parabolas = {"n_params": size, "n_tokens": tokens, "a": found.isoflop.exponent}
    return {
        "budget_flops": budget_flops,
        "n_runs": len(runs),
        "largest_budget_flops": float(runs.compute_flops.max()),
        "surface": {name: _interval(figures[name]) for name in FIGURES},
        "law": {name: getattr(found.law, name) for name in ("E", "A", "B", "alpha", "beta")},
        "parabolas": parabolas,
        "verdict": found.verdict._asdict(),
    }


def observe(spec: SweepSpec, runs: Runs) -> dict[str, Any]:
    """Where the runs of one budget have their minimum: the parabola's and the lowest run; a reason for what is None."""
    if not len(runs):
        return {"lowest_run": None, "parabola": None, "reason": "all sizes diverged"}
    n_params, per_token = sizes_of(spec)
    lowest = int(runs.loss.argmin())
    run = {
        "n_params": float(runs.n_params[lowest]),
        "n_tokens": float(runs.n_tokens[lowest]),
        "loss": float(runs.loss[lowest]),
    }
    curves = isoflops(runs)
    if not curves:
        reason = f"{len(runs)} sizes have a loss: a parabola takes at least {MIN_SIZES_PER_CURVE}"
        return {"lowest_run": run, "parabola": None, "reason": reason}
    if curves[0].best_params is None:
        return {"lowest_run": run, "parabola": None, "reason": "no minimum lies between the sizes"}
    size = curves[0].best_params
    tokens = tokens_at(curves[0].compute_flops, size, n_params, per_token)
    return {"lowest_run": run, "parabola": {"n_params": size, "n_tokens": tokens, "loss": curves[0].best_loss}}


def sizes_of(spec: SweepSpec) -> tuple[Array, Array]:
    """Parameters and counted FLOPs per token of the whole ladder, ascending."""
    models = ladder(spec)
    return (
        np.array([float(count_params(model).total) for model in models]),
        np.array([train_flops_per_token(model, spec.seq_len) for model in models]),
    )


def _interval(figure: Interval) -> dict[str, float | None]:
    return {"value": figure.value, "p5": figure.p5, "p95": figure.p95}
