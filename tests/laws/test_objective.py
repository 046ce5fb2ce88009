from __future__ import annotations

import numpy as np
import pytest

from tests.laws import chinchilla, sweeps
from tests.shared_data import needs_shared_data
from twobills.laws.forms import Law, log_parameters
from twobills.laws.objective import centred, descend, huber, objective, points_of, uncentred, value_and_gradient
from twobills.laws.published import published_law

TRUTH = published_law("besiroglu-2024")


@needs_shared_data
@pytest.mark.parametrize(
    ("log_law", "expected"),
    [
        ((np.log(477.84171), np.log(2143.86379), np.log(1.8172355), 0.3473127, 0.3671826), 0.0010182740),
        ((np.log(482.00572), np.log(2085.43420), np.log(1.81686), 0.34781, 0.36585), 0.0010187458),
        ((6.0073404, 6.0179186, 0.5267228, 0.33917084, 0.2849083), 0.0012311626),
        ((np.log(406.4), np.log(410.7), np.log(1.69), 0.34, 0.28), 0.0041210090),
    ],
    ids=["their grid's best", "their estimate", "Hoffmann unrounded", "Hoffmann rounded"],
)
def test_the_objective_on_chinchillas_points(log_law: tuple[float, ...], expected: float) -> None:
    """Besiroglu et al. 2024, notebook: sums of Huber losses over the 240 points."""
    points = points_of(chinchilla.runs())
    theta = centred(np.array([log_law]), points)
    assert objective(theta, points, np.ones((1, 240)))[0] == pytest.approx(expected, abs=6e-10)


def test_the_gradient_is_the_slope() -> None:
    points = points_of(sweeps.sweep(TRUTH, noise=0.01))
    weights = np.random.default_rng(1).integers(0, 3, len(points.x)).astype(float)
    theta = centred(log_parameters(TRUTH)[None], points)[0] + 0.05
    _, gradient = value_and_gradient(theta, points, weights, 1e-3)
    optimize = pytest.importorskip("scipy.optimize")
    numeric = optimize.approx_fprime(theta, lambda t: value_and_gradient(t, points, weights, 1e-3)[0], 1e-7)
    assert gradient == pytest.approx(numeric, rel=1e-4, abs=1e-5)


def test_huber_is_half_the_square_and_then_straight() -> None:
    assert huber(np.array([0.0005, 0.001, 0.003, -0.003]), 1e-3) == pytest.approx([1.25e-7, 5e-7, 2.5e-6, 2.5e-6])


def test_centring_changes_no_law() -> None:
    points = points_of(sweeps.sweep(TRUTH))
    theta = log_parameters(TRUTH)[None]
    assert uncentred(centred(theta, points), points) == pytest.approx(theta)
    assert objective(centred(theta, points), points, np.ones((1, 35)))[0] == pytest.approx(0, abs=1e-20)


def test_a_descent_never_ends_higher() -> None:
    points = points_of(sweeps.sweep(Law(name="x", E=2, A=300, B=900, alpha=0.3, beta=0.3), noise=0.02))
    starts = centred(np.random.default_rng(0).uniform([0, 0, -1, 0, 0], [25, 25, 1, 2, 2], (50, 5)), points)
    ones = np.ones((1, len(points.x)))
    _, after = descend(starts, points, ones, 10)
    assert (after <= objective(starts, points, ones)).all()
