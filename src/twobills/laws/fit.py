"""The law that fits runs best: Hoffmann's objective from thousands of starts, and how sure its constants are.

One start is a trap: L-BFGS stops in valleys of this objective. So all 4,500 starts of Hoffmann's grid are weighed at
once, the best go on together, and the last are finished by L-BFGS with the analytic gradient. Each bootstrap (the runs
drawn again with replacement) is refitted the same way from several starts of its own.
Ref: Hoffmann et al. 2022, arXiv:2203.15556, appendix D.2; Besiroglu et al. 2024, arXiv:2404.10102.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from twobills.errors import DataError
from twobills.laws.forms import LEAST_E, Law, law_of
from twobills.laws.objective import (
    HUBER_DELTA,
    N_PARAMETERS,
    Array,
    Points,
    centred,
    descend,
    objective,
    points_of,
    uncentred,
    value_and_gradient,
)
from twobills.laws.runs import Runs

N_BOOTSTRAPS = 4000
_GRID = (
    np.arange(0.0, 30.0, 5.0),
    np.arange(0.0, 30.0, 5.0),
    np.arange(-1.0, 1.5, 0.5),
    np.arange(0.0, 2.5, 0.5),
    np.arange(0.0, 2.5, 0.5),
)
"""Hoffmann's starts of a, b, e, alpha, beta."""
_LEVELS, _EXPONENTS = (-1.0, -0.3, -0.03), (0.1, 0.3, 0.6)
"""Starts that the runs themselves suggest: ln E below the lowest ln loss by so much, and these alpha and beta."""
_CHUNK, _KEPT, _FINISHED = 500, 600, 16
_FIRST_STEPS, _LATER_STEPS, _BOOTSTRAP_STEPS = 12, 60, 60
_LBFGS = {"maxiter": 2000, "maxfun": 3000, "maxcor": 20, "ftol": 1e-15, "gtol": 1e-9}
_BOOTSTRAP_LBFGS = {"maxiter": 500, "maxfun": 1000, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-8}
_AT_MOST = 10.0
"""An exponent above this is a cliff and no law: it says only that the smallest are too small."""
_AT_ZERO = 1e-3
"""An exponent below this is none: the runs do not show what size, or data, does."""


class Fit(NamedTuple):
    """The fitted law and how well it fits."""

    law: Law
    objective: float
    """Sum of Huber losses of ln L, delta 1e-3."""
    n_runs: int
    starts: tuple[Array, ...]
    """Where good descents came from, in centred coordinates: the bootstraps start there too."""


class Bootstrap(NamedTuple):
    """The same fit of runs drawn again and again."""

    theta: Array
    """(ln A, ln B, ln E, alpha, beta) of each draw, (S, 5)."""

    def standard_errors(self) -> dict[str, float]:
        """Of A, B, E, alpha and beta themselves."""
        natural = np.concatenate([np.exp(self.theta[:, :3]), self.theta[:, 3:]], axis=1)
        return dict(zip(("A", "B", "E", "alpha", "beta"), natural.std(0, ddof=1).tolist(), strict=True))

    def covariance(self) -> tuple[tuple[float, ...], ...]:
        """Of (ln A, ln B, ln E, alpha, beta)."""
        return tuple(tuple(row) for row in np.cov(self.theta.T).tolist())

    def laws(self, like: Law) -> list[Law]:
        """The drawn fits as laws; those whose exponents are none of a law are left out."""
        exponents = self.theta[:, 3:]
        kept = ((exponents > 0) & (exponents <= _AT_MOST)).all(1)
        return [law_of(row, like) for row in self.theta[kept]]


def fit(runs: Runs, *, name: str = "fit", delta: float = HUBER_DELTA) -> Fit:
    """The best law from all starts. Raises DataError where the runs show no effect of size or of data."""
    points, one = points_of(runs), np.ones((1, len(runs)))
    starts = centred(_starts(points), points)
    values = [objective(starts[i : i + _CHUNK], points, one, delta) for i in range(0, len(starts), _CHUNK)]
    kept = starts[np.argsort(np.concatenate(values), kind="stable")[:_KEPT]]
    kept, value = descend(kept, points, one, _FIRST_STEPS, delta)
    kept, value = descend(kept[np.argsort(value, kind="stable")[: 2 * _FINISHED]], points, one, _LATER_STEPS, delta)
    best = kept[np.argsort(value, kind="stable")[:_FINISHED]]
    finished = sorted((_finish(theta, points, one[0], delta, _LBFGS) for theta in best), key=lambda found: found[1])
    theta, least = finished[0]
    return Fit(_as_law(theta, points, runs, name), least, len(runs), _bootstrap_starts(theta, points))


def bootstrap(
    runs: Runs, best: Fit, *, n_bootstraps: int = N_BOOTSTRAPS, seed: int = 42, delta: float = HUBER_DELTA
) -> Bootstrap:
    """``n_bootstraps`` refits of as many runs drawn with replacement, each from several starts."""
    if n_bootstraps < 2:
        raise DataError(f"bootstraps={n_bootstraps}: at least 2, or 0 for none")
    points, n = points_of(runs), len(runs)
    drawn = np.random.default_rng(seed).integers(0, n, (n_bootstraps, n))
    found = np.empty((n_bootstraps, N_PARAMETERS))
    for first in range(0, n_bootstraps, _CHUNK):
        weights = np.stack([np.bincount(row, minlength=n) for row in drawn[first : first + _CHUNK]]).astype(float)
        descents = [
            descend(np.repeat(start[None], len(weights), 0), points, weights, _BOOTSTRAP_STEPS, delta)
            for start in best.starts
        ]
        winner = np.argmin([value for _, value in descents], axis=0)
        theta = np.stack([theta for theta, _ in descents])[winner, np.arange(len(weights))]
        for i, (row, weight) in enumerate(zip(theta, weights, strict=True)):
            found[first + i] = _finish(row, points, weight, delta, _BOOTSTRAP_LBFGS)[0]
    return Bootstrap(uncentred(found, points))


def _starts(points: Points) -> Array:
    """Hoffmann's grid, and starts around the runs' own level, for losses and sizes that are far from his."""
    grid = np.array(list(itertools.product(*_GRID)))
    lowest, middle = points.log_loss.min(), float(np.median(points.log_loss))
    own = []
    for below, alpha, beta, share in itertools.product(_LEVELS, _EXPONENTS, _EXPONENTS, (0.2, 0.5, 0.8)):
        e = lowest + below
        rest = max(math.exp(middle) - math.exp(e), 1e-3 * math.exp(middle))
        own.append([math.log(share * rest), math.log((1 - share) * rest), e, alpha, beta])
    return np.concatenate([grid, uncentred(np.array(own), points)])


def _bootstrap_starts(theta: Array, points: Points) -> tuple[Array, ...]:
    """The best fit, and three far from it in E and in the exponents."""
    lowest = float(points.log_loss.min())
    far = ((lowest - 0.5, 0.6, 0.6), (lowest - 0.05, 0.2, 0.8), (lowest - 1.2, 0.2, 0.2))
    return (theta, *(np.array([theta[0], theta[1], e, alpha, beta]) for e, alpha, beta in far))


def _finish(
    theta: Array, points: Points, weights: Array, delta: float, options: dict[str, float]
) -> tuple[Array, float]:
    if len(points.x) <= N_PARAMETERS:  # such runs fit whole valleys of laws, along which L-BFGS would never end
        return theta, float(objective(theta[None], points, weights, delta)[0])
    arguments = (points, weights, delta)
    done = minimize(value_and_gradient, theta, args=arguments, jac=True, method="L-BFGS-B", options=options)
    before = value_and_gradient(theta, *arguments)[0]
    return (theta, before * delta) if before < done.fun else (np.asarray(done.x, dtype=float), float(done.fun) * delta)


def _as_law(theta: Array, points: Points, runs: Runs, name: str) -> Law:
    a, b, e, alpha, beta = (float(x) for x in uncentred(theta, points))
    for what, exponent in (("size", alpha), ("data", beta)):
        if exponent < _AT_ZERO:
            raise DataError(
                f"the runs show no gain from {what} (its exponent came out {exponent:.3g}); add runs of other {what}"
            )
        if exponent > _AT_MOST:
            raise DataError(
                f"the runs show no law of {what} (its exponent came out {exponent:.3g}); add longer runs and more sizes"
            )
    return Law(
        name=name,
        A=math.exp(a),
        B=math.exp(b),
        E=max(LEAST_E, math.exp(e)),
        alpha=alpha,
        beta=beta,
        min_params=float(runs.n_params.min()),
        max_params=float(runs.n_params.max()),
        min_tokens=float(runs.n_tokens.min()),
        max_tokens=float(runs.n_tokens.max()),
        source=f"fitted to {len(runs)} runs",
    )
