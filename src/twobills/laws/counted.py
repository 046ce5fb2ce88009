"""The best size for a budget that was counted, attention included, where 6ND is not the compute.

At small widths attention is a third of the work, so the closed form for C = 6ND would ask for more tokens than the
budget pays. Here a token of each size costs what was counted, between sizes on a straight line of logarithms.
"""

from __future__ import annotations

import numpy as np

from twobills.laws.forms import Law, loss
from twobills.laws.optimum import Optimum
from twobills.laws.runs import Array

_N_POINTS = 2000


def counted_optimum(law: Law, compute_flops: float, n_params: Array, flops_per_token: Array) -> Optimum:
    """The size and data of the lowest loss between the smallest and the largest of the sizes, which ascend."""
    sizes = np.linspace(np.log(n_params[0]), np.log(n_params[-1]), _N_POINTS)
    tokens = np.log(compute_flops) - np.interp(sizes, np.log(n_params), np.log(flops_per_token))
    reducible = law.A * np.exp(-law.alpha * sizes) + law.B * np.exp(-law.beta * tokens)
    best = int(reducible.argmin())
    n, d = float(np.exp(sizes[best])), float(np.exp(tokens[best]))
    return Optimum(compute_flops, n, d, loss(law, n, d))


def tokens_at(compute_flops: float, size: float, n_params: Array, flops_per_token: Array) -> float:
    """Tokens that a budget pays at a size between those given."""
    return float(compute_flops / np.exp(np.interp(np.log(size), np.log(n_params), np.log(flops_per_token))))
