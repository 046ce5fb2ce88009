"""Fits the calibration to published throughput: forecasts of all rows at once, least squares of the log error.

Every fitted number stays near what is plausible for hardware (a weak log-normal prior), so that a number which the rows
say little about keeps its plausible value instead of absorbing noise. Outliers count less (soft L1). What rows leave
out of their parallel plan is chosen again after each round, with the numbers fitted so far.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from twobills.counts.sharded_step import StepWork
from twobills.counts.stacked import stacked
from twobills.flows.validation.rows import ThroughputRow
from twobills.flows.validation.throughput import plan_of
from twobills.perf.achieved import achieved, table
from twobills.perf.sharded_step import step_time
from twobills.specs.calibration import Calibration, flatten, unflatten

PLAUSIBLE: Mapping[str, tuple[float, float]] = {
    "matmul_frac": (0.75, 0.15),
    "attention_frac": (0.35, 0.4),
    "tuned_attention": (2.0, 0.2),
    "half_rate_s": (1e-6, 1.5),
    "bandwidth_frac": (0.8, 0.1),
    "link_frac": (0.75, 0.15),
    "network_frac": (0.75, 0.15),
    "data_overlap": (0.7, 0.3),
    "tensor_overlap": (0.6, 0.3),
    "passes": (1.0, 0.4),
    "straggling": (0.01, 0.7),
}
"""Before any row is seen: value, and standard deviation of its logarithm."""
ERROR_SCALE = 0.08
"""Log error at which a row begins to count less."""
PRIOR_WEIGHT = 0.1
"""Log error that a number one standard deviation from plausible counts as."""
ROUNDS = 3
AT_MOST = 0.98
"""Fractions stay below 1."""
AT_MOST_HIDDEN = 0.85
"""What runs beside computation still takes its share of the chip: 20 of an H800's 132 multiprocessors (DeepSeek-V3,
arXiv:2412.19437, section 3.2.2)."""


class Sample(NamedTuple):
    """A row with the plan that it ran or would run."""

    row: ThroughputRow
    work: StepWork


def sample(row: ThroughputRow, calibration: Calibration) -> Sample:
    """The row with its plan. Raises SpecError if no plan agrees with what it states."""
    chosen = plan_of(row, calibration)
    return Sample(row, chosen.work)


def forecasts(samples: Sequence[Sample], calibration: Calibration) -> NDArray[np.float64]:
    """Tokens per second and chip of every row, in one pass."""
    work = stacked([s.work for s in samples])
    return _tokens_per_s(samples, work, calibration)


def fit(rows: Sequence[ThroughputRow], start: Calibration) -> Calibration:
    """The calibration that these rows suggest."""
    found = start
    for _ in range(ROUNDS):
        found = _fit_once([sample(row, found) for row in rows], found)
    return found


def _fit_once(samples: Sequence[Sample], start: Calibration) -> Calibration:
    work = stacked([s.work for s in samples])
    measured = np.array([s.row.tokens_per_s_per_chip for s in samples])
    names = list(flatten(start))
    plausible = np.array([PLAUSIBLE[name.partition(".")[0]] for name in names])

    def at(logs: NDArray[np.float64]) -> Calibration:
        values = dict(zip(names, np.exp(logs).tolist(), strict=True))
        return Calibration(**unflatten(values, start))

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        error = np.log(_tokens_per_s(samples, work, at(logs)) / measured)
        away = (logs - np.log(plausible[:, 0])) / plausible[:, 1]
        return np.concatenate([error, PRIOR_WEIGHT * away])

    upper = np.array([_most(name) for name in names])
    first = np.minimum(np.log(np.array(list(flatten(start).values()))), upper - 1e-6)
    found = least_squares(residuals, first, bounds=(-np.inf, upper), loss="soft_l1", f_scale=ERROR_SCALE)
    return at(found.x)


def _most(name: str) -> float:
    """The logarithm of the most that a number may be."""
    kind = name.partition(".")[0]
    if kind in {"data_overlap", "tensor_overlap"}:
        return math.log(AT_MOST_HIDDEN)
    is_fraction = kind in {"matmul_frac", "attention_frac", "bandwidth_frac", "link_frac", "network_frac"}
    return math.log(AT_MOST) if is_fraction else math.inf


def _tokens_per_s(samples: Sequence[Sample], work: StepWork, calibration: Calibration) -> NDArray[np.float64]:
    rates = table([achieved(s.row.cluster, s.row.stack, calibration) for s in samples])
    seconds = step_time(work, rates).seconds
    tokens = np.array([s.row.global_batch * s.row.seq_len / s.row.cluster.n_chips for s in samples])
    return np.asarray(tokens / seconds)
