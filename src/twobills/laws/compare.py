"""Does another law also fit these runs? Likelihoods under the Huber loss's own distribution, and the test of equality.

Far beyond delta the Huber loss is the absolute one, whose distribution is Laplace's: its best scale is the mean
absolute residual, and the log-likelihood follows. Twice the gain of the fitted law is chi-squared with 5 degrees of
freedom if the other law is the true one. Ref: Besiroglu et al. 2024, arXiv:2404.10102, section 4.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2

from twobills.laws.forms import Law, loss
from twobills.laws.objective import HUBER_DELTA, N_PARAMETERS, huber
from twobills.laws.runs import Array, Runs


class Comparison(NamedTuple):
    """Another law held against the fitted one on the same runs."""

    law: str
    objective: float
    log_likelihood: float
    statistic: float
    """Twice what the fitted law's log-likelihood is higher."""
    p_value: float


def compare(runs: Runs, fitted: Law, other: Law) -> Comparison:
    """How likely the runs would be if ``other`` were true."""
    ours, theirs = log_residuals(runs, fitted), log_residuals(runs, other)
    statistic = max(0.0, 2 * (log_likelihood(ours) - log_likelihood(theirs)))
    p_value = float(chi2.sf(statistic, N_PARAMETERS))
    total = float(huber(theirs, HUBER_DELTA).sum())
    return Comparison(other.name, total, log_likelihood(theirs), statistic, p_value)


def log_residuals(runs: Runs, law: Law) -> Array:
    """ln L of the law less ln L of the run."""
    predicted = [loss(law, n, d) for n, d in zip(runs.n_params.tolist(), runs.n_tokens.tolist(), strict=True)]
    found: Array = np.log(np.array(predicted)) - np.log(runs.loss)
    return found


def log_likelihood(residuals: Array) -> float:
    """Of the residuals under Laplace's distribution at its best scale."""
    scale = max(float(np.abs(residuals).mean()), 1e-12)
    return -len(residuals) * (math.log(2 * scale) + 1)
