"""What a fit minimises: the sum of Huber losses of ln L against the law, and its gradient, for many laws at once.

ln L = LSE(a - alpha ln N, b - beta ln D, e) with a = ln A, b = ln B, e = ln E. ln N and ln D are centred inside, which
makes (a, alpha) and (b, beta) nearly independent and every descent short. Arrays: S laws, n runs; ``weights_Sn`` says
how often each run counts, which is what a bootstrap changes.
Ref: Hoffmann et al. 2022, arXiv:2203.15556, appendix D.2 (equation 3).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.laws.runs import Runs

Array = NDArray[np.float64]
HUBER_DELTA = 1e-3
N_PARAMETERS = 5
_RIDGE = 1e-14
_LEAST_DAMPING, _MOST_DAMPING = 1e-12, 1e8


class Points(NamedTuple):
    """The runs in the coordinates of the fit."""

    x: Array
    """ln N, centred."""
    y: Array
    """ln D, centred."""
    log_loss: Array
    mean_x: float
    mean_y: float


class Surface(NamedTuple):
    """Residuals of S laws at n points, and the shares of size, data and E in each predicted loss."""

    residual: Array  # (S, n)
    size: Array  # (S, n)
    data: Array  # (S, n)
    least: Array  # (S, n)


def points_of(runs: Runs) -> Points:
    """Centred logarithms of the runs."""
    x, y = np.log(runs.n_params), np.log(runs.n_tokens)
    return Points(x - x.mean(), y - y.mean(), np.log(runs.loss), float(x.mean()), float(y.mean()))


def centred(theta_S5: Array, points: Points) -> Array:
    """(a, b, e, alpha, beta) as they are for centred logarithms."""
    moved = np.array(theta_S5, dtype=float)
    moved[..., 0] -= moved[..., 3] * points.mean_x
    moved[..., 1] -= moved[..., 4] * points.mean_y
    return moved


def uncentred(theta_S5: Array, points: Points) -> Array:
    """The inverse of ``centred``."""
    moved = np.array(theta_S5, dtype=float)
    moved[..., 0] += moved[..., 3] * points.mean_x
    moved[..., 1] += moved[..., 4] * points.mean_y
    return moved


def surface(theta_S5: Array, points: Points) -> Surface:
    """Residuals ln L_law - ln L, and how the law's loss is shared out."""
    size = theta_S5[:, 0:1] - theta_S5[:, 3:4] * points.x
    data = theta_S5[:, 1:2] - theta_S5[:, 4:5] * points.y
    least = np.broadcast_to(theta_S5[:, 2:3], size.shape)
    top = np.maximum(np.maximum(size, data), least)
    size, data, least = np.exp(size - top), np.exp(data - top), np.exp(least - top)
    total = size + data + least
    return Surface(top + np.log(total) - points.log_loss, size / total, data / total, least / total)


def huber(residual: Array, delta: float = HUBER_DELTA) -> Array:
    """Half the square up to delta, delta times what is beyond."""
    absolute = np.abs(residual)
    return np.where(absolute <= delta, 0.5 * residual**2, delta * (absolute - 0.5 * delta))


def objective(theta_S5: Array, points: Points, weights_Sn: Array, delta: float = HUBER_DELTA) -> Array:
    """The weighted sum of Huber losses of each law."""
    total: Array = (weights_Sn * huber(surface(theta_S5, points).residual, delta)).sum(1)
    return total


def value_and_gradient(theta: Array, points: Points, weights: Array, delta: float) -> tuple[float, Array]:
    """The objective of one law in units of delta, and its gradient, as L-BFGS takes them."""
    at = surface(theta[None], points)
    residual = at.residual[0]
    pull = weights * np.clip(residual, -delta, delta) / delta
    size, data = pull * at.size[0], pull * at.data[0]
    gradient = np.array([size.sum(), data.sum(), pull @ at.least[0], -size @ points.x, -data @ points.y])
    return float(weights @ huber(residual, delta)) / delta, gradient


def descend(
    theta_S5: Array, points: Points, weights_Sn: Array, n_steps: int, delta: float = HUBER_DELTA
) -> tuple[Array, Array]:
    """All laws after so many damped, reweighted Gauss-Newton steps, and their objectives; none ever gets worse.

    Weights of min(1, delta/|residual|) turn Huber's loss into squares that touch it from above; damping grows where a
    step fails and shrinks where it succeeds.
    """
    theta, damping = theta_S5, np.full(len(theta_S5), 1e-2)
    at = surface(theta, points)
    best = (weights_Sn * huber(at.residual, delta)).sum(1)
    for _ in range(n_steps):
        tried = theta - _step(at, points, weights_Sn, damping, delta)
        there = surface(tried, points)
        value = (weights_Sn * huber(there.residual, delta)).sum(1)
        better = value < best
        damping = np.clip(np.where(better, 0.3 * damping, 4 * damping), _LEAST_DAMPING, _MOST_DAMPING)
        theta, best = np.where(better[:, None], tried, theta), np.where(better, value, best)
        at = Surface(*(np.where(better[:, None], new, old) for new, old in zip(there, at, strict=True)))
    return theta, best


def _step(at: Surface, points: Points, weights_Sn: Array, damping_S: Array, delta: float) -> Array:
    jacobian_S5n = np.stack([at.size, at.data, at.least, -at.size * points.x, -at.data * points.y], axis=1)
    weights = weights_Sn * np.minimum(1.0, delta / np.maximum(np.abs(at.residual), delta))
    weighted = jacobian_S5n * weights[:, None, :]
    gradient = np.einsum("skn,sn->sk", weighted, at.residual)
    # einsum and not @: threads of a BLAS cost more than they save on products of 5 x n
    hessian = np.einsum("skn,sjn->skj", weighted, jacobian_S5n)
    diagonal = np.einsum("skk->sk", hessian)
    lifted = damping_S[:, None] * (diagonal + 1e-9 * diagonal.max(1, keepdims=True)) + _RIDGE
    hessian = hessian + lifted[:, :, None] * np.eye(N_PARAMETERS)
    found: Array = np.linalg.solve(hessian, gradient[..., None])[..., 0]
    return found
