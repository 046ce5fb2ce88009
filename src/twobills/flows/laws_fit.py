"""What ``twobills laws fit`` does: runs in; out come a law by three approaches, how sure it is and what it allows.

Needs SciPy, the extra ``[fit]``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from twobills.errors import RequestError
from twobills.laws.approaches import Envelope, IsoFlop, PowerLaw, envelope, envelope_law, isoflop_law, isoflops
from twobills.laws.compare import Comparison, compare, log_residuals
from twobills.laws.fit import N_BOOTSTRAPS, Bootstrap, Fit, bootstrap, fit
from twobills.laws.forms import PARAMETERS, Interval, Law
from twobills.laws.objective import N_PARAMETERS
from twobills.laws.optimum import optimum, optimum_intervals
from twobills.laws.published import published_law
from twobills.laws.runs import Array, Runs, sizes, without_worst
from twobills.laws.verdict import FAR, Verdict, verdict
from twobills.report.documents import SCHEMA

CHINCHILLA_BUDGET_FLOPS = 5.76e23
"""Where the optimum is told if nobody asks for another budget and the runs reach near enough."""
AGAINST = ("hoffmann-2022", "hoffmann-2022-rounded", "besiroglu-2024")
"""Published laws that the runs are held against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRequest:
    """What was asked for."""

    drop_worst: int = 0
    n_bootstraps: int = N_BOOTSTRAPS
    seed: int = 42
    budget_flops: float | None = None

    def __post_init__(self) -> None:
        if self.drop_worst < 0:
            raise RequestError(f"--drop-worst {self.drop_worst}: must be 0 or more")
        if self.n_bootstraps < 0 or self.n_bootstraps == 1:
            raise RequestError(f"--bootstraps {self.n_bootstraps}: must be 0 (none) or at least 2")


class FittedRuns(NamedTuple):
    """Everything that the fit found, for the document and the pictures."""

    runs: Runs
    fit: Fit
    draws: Bootstrap | None
    law: Law
    """The fitted law with the bootstraps' covariance."""
    curves: list[IsoFlop]
    isoflop: PowerLaw | None
    lowest: Envelope | None
    envelope: PowerLaw | None
    residuals: Array
    comparisons: list[Comparison]
    verdict: Verdict
    budget_flops: float


def fit_runs(runs: Runs, asked: FitRequest) -> FittedRuns:
    """All three approaches on the runs, the worst left out as asked. Raises DataError where they carry no law."""
    runs = without_worst(runs, asked.drop_worst)
    found = fit(runs)
    drawn = None
    if asked.n_bootstraps and len(runs) > N_PARAMETERS:
        drawn = bootstrap(runs, found, n_bootstraps=asked.n_bootstraps, seed=asked.seed)
    law = replace(found.law, covariance=drawn.covariance()) if drawn else found.law
    curves, lowest = isoflops(runs), envelope(runs)
    return FittedRuns(
        runs=runs,
        fit=found,
        draws=drawn,
        law=law,
        curves=curves,
        isoflop=isoflop_law(curves),
        lowest=lowest,
        envelope=envelope_law(lowest),
        residuals=log_residuals(runs, law),
        comparisons=[compare(runs, law, published_law(name)) for name in AGAINST],
        verdict=verdict(runs, law, curves, drawn.standard_errors() if drawn else None),
        budget_flops=asked.budget_flops or _usual_budget(runs),
    )


def fit_document(found: FittedRuns, asked: FitRequest, where: str) -> dict[str, Any]:
    """The fit as ``laws fit --json`` prints it."""
    law, runs = found.law, found.runs
    errors = found.draws.standard_errors() if found.draws else None
    return {
        "schema": SCHEMA,
        "runs": where,
        "n_runs": len(runs),
        "n_dropped": asked.drop_worst,
        "n_sizes": len(sizes(runs)),
        "n_bootstraps": len(found.draws.theta) if found.draws else 0,
        "objective": found.fit.objective,
        "parameters": {name: getattr(law, name) for name in PARAMETERS},
        "standard_errors": errors or dict.fromkeys(PARAMETERS),
        **({} if errors else {"standard_errors_reason": "no bootstraps: fewer than 6 runs, or --bootstraps 0"}),
        "covariance": law.covariance,
        "covariance_of": ["ln A", "ln B", "ln E", "alpha", "beta"],
        "range": {
            "n_params": [law.min_params, law.max_params],
            "n_tokens": [law.min_tokens, law.max_tokens],
            "compute_flops": [float(runs.compute_flops.min()), float(runs.compute_flops.max())],
        },
        "optimum": _optimum(found),
        "approaches": _approaches(found),
        "isoflops": [_isoflop(curve) for curve in found.curves],
        "residual_rms": float(np.sqrt((found.residuals**2).mean())),
        "against": {each.law: _comparison(each) for each in found.comparisons},
        "verdict": found.verdict._asdict(),
    }


def _usual_budget(runs: Runs) -> float:
    """Chinchilla's where the runs reach within a factor of it, else ten times their own largest."""
    largest = float(runs.compute_flops.max())
    return CHINCHILLA_BUDGET_FLOPS if largest * FAR >= CHINCHILLA_BUDGET_FLOPS else 10 * largest


def _optimum(found: FittedRuns) -> dict[str, Any]:
    """The best size at the budget; nothing beyond the runs where they show no minimum."""
    law, budget = found.law, found.budget_flops
    a_draws = [each.a for each in found.draws.laws(law)] if found.draws else []
    told: dict[str, Any] = {
        "a": law.a,
        "a_standard_error": float(np.std(a_draws, ddof=1)) if len(a_draws) > 1 else None,
        "compute_flops": budget,
    }
    within = budget <= float(found.runs.compute_flops.max())
    if not found.verdict.extrapolates and not within:
        nothing: dict[str, Any] = dict.fromkeys(("n_params", "n_tokens", "loss", "tokens_per_parameter"))
        why = f"not extrapolated: {' '.join(found.verdict.sentences)}"
        add = f" Add {'; '.join(found.verdict.runs_to_add)}." if found.verdict.runs_to_add else ""
        return {**told, "a": None, **nothing, "reason": why + add}
    drawn = found.draws.laws(law) if found.draws else []
    figures = optimum_intervals(law, drawn, lambda each: optimum(each, budget))
    best = {name: figures[name].value for name in ("n_params", "n_tokens", "loss")}
    intervals = {name: _interval(figures[name]) for name in ("n_params", "n_tokens", "loss", "tokens_per_param")}
    return {
        **told,
        **best,
        "tokens_per_parameter": figures["tokens_per_param"].value,
        "intervals": intervals,
        "extrapolated_times": budget / float(found.runs.compute_flops.max()),
    }


def _interval(figure: Interval) -> dict[str, float | None]:
    return {"value": figure.value, "p5": figure.p5, "p95": figure.p95}


def _approaches(found: FittedRuns) -> dict[str, Any]:
    """Exponent a and best size at the budget by each; only the parametric one where nothing may be extrapolated."""
    budget = found.budget_flops
    told = found.verdict.extrapolates or budget <= float(found.runs.compute_flops.max())

    def of(law: PowerLaw | None, lacking: str) -> dict[str, Any]:
        if law is None:
            return {"a": None, "n_params": None, "reason": lacking}
        return {"a": law.exponent, "n_params": law.n_params(budget) if told else None, "n_points": law.n_points}

    parametric = {"a": found.law.a, "n_params": optimum(found.law, budget).n_params, "n_points": len(found.runs)}
    return {
        "envelope": of(found.envelope, "fewer than 3 sizes' curves overlap, or one size is best throughout"),
        "isoflop": of(found.isoflop, "fewer than 2 budgets with a minimum within 4 or more sizes"),
        "parametric": parametric if told else {**parametric, "n_params": None},
    }


def _isoflop(curve: IsoFlop) -> dict[str, Any]:
    return {
        "compute_flops": curve.compute_flops,
        "n_runs": len(curve.n_params),
        "minimum": curve.side,
        "n_params": curve.best_params,
        "loss": curve.best_loss,
    }


def _comparison(each: Comparison) -> dict[str, Any]:
    return {
        "objective": each.objective,
        "log_likelihood": each.log_likelihood,
        "statistic": each.statistic,
        "p_value": each.p_value,
        "rejected": each.p_value < 0.01,
    }
