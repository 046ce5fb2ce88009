"""The runs that a law is fitted to: parameters, tokens, FLOPs and final loss of each, checked.

Two of N, D and C are given and the third is C = 6ND; where all three are, they stand as they are. What makes a fit
meaningless is refused here in one line; what only makes it weak is told by ``laws.verdict``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from twobills.errors import DataError
from twobills.laws.optimum import FLOPS_PER_PARAM_TOKEN

MIN_RUNS = 4
SAME_SIZE_LOG = 0.02
"""Sizes within 2 % of each other are one size."""
TOGETHER = 0.98
"""Sizes and tokens so strongly correlated do not tell what each does."""
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runs:
    """One entry per run, all arrays of one length."""

    n_params: Array
    n_tokens: Array
    compute_flops: Array
    loss: Array

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, which: NDArray[np.bool_]) -> Runs:
        """Those runs only."""
        return Runs(**{field.name: getattr(self, field.name)[which] for field in fields(self)})


def read_runs(columns: Mapping[str, Sequence[float]], lines: Sequence[int], where: str) -> Runs:
    """Runs from columns n_params, n_tokens, compute_flops (two of them) and loss; ``lines`` name the rows in errors.

    Raises DataError for a value that is no number above 0, fewer than 4 runs, one size, or losses that rise with data.
    """
    arrays = {name: np.asarray(values, dtype=float) for name, values in columns.items()}
    for name, values in arrays.items():
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if bad.size:
            value = values[bad[0]]
            raise DataError(
                f"{where}, line {lines[bad[0]]}: {name}={value:g}: must be a number above 0; leave the row out"
            )
    if len(lines) < MIN_RUNS:
        raise DataError(f"{where}: {len(lines)} runs: a law takes at least {MIN_RUNS}, and tells something from 8 on")
    product = FLOPS_PER_PARAM_TOKEN
    if "n_tokens" not in arrays:
        arrays["n_tokens"] = arrays["compute_flops"] / (product * arrays["n_params"])
    elif "n_params" not in arrays:
        arrays["n_params"] = arrays["compute_flops"] / (product * arrays["n_tokens"])
    elif "compute_flops" not in arrays:
        arrays["compute_flops"] = product * arrays["n_params"] * arrays["n_tokens"]
    runs = Runs(**arrays)
    _refuse_what_has_no_law(runs, where)
    return runs


def without_worst(runs: Runs, n_dropped: int) -> Runs:
    """The runs with a loss below the ``n_dropped``-th highest, as Besiroglu et al. leave out 5 of 245."""
    if n_dropped == 0:
        return runs
    if not 0 < n_dropped <= len(runs) - MIN_RUNS:
        raise DataError(f"drop_worst={n_dropped}: of {len(runs)} runs at most {len(runs) - MIN_RUNS} can go")
    return runs.take(runs.loss < np.sort(runs.loss)[-n_dropped])


def sizes(runs: Runs) -> Array:
    """The distinct sizes, smallest first, those within 2 % of each other as one."""
    return np.array([np.exp(np.log(group).mean()) for group in _grouped(np.sort(runs.n_params), SAME_SIZE_LOG)])


def _refuse_what_has_no_law(runs: Runs, where: str) -> None:
    if len(sizes(runs)) < 2:
        raise DataError(
            f"{where}: all {len(runs)} runs have one size, {runs.n_params[0]:.3g} parameters; add other sizes"
        )
    if np.ptp(np.log(runs.n_tokens)) < SAME_SIZE_LOG:
        raise DataError(f"{where}: all {len(runs)} runs saw as many tokens, {runs.n_tokens[0]:.3g}; add others")
    if np.ptp(np.log(runs.loss)) == 0:
        raise DataError(f"{where}: all {len(runs)} runs have one loss, {runs.loss[0]:g}; is it the right column?")
    slope = _slope_with_data(runs)
    if slope is not None and slope > 0:
        raise DataError(
            f"{where}: the loss rises with data (at one size, ten times the tokens take it to "
            f"{10**slope:.3g} times as much); is a column mistaken for another, or did the long runs diverge?"
        )


def _slope_with_data(runs: Runs) -> float | None:
    """ln L over ln D at one size; None where size and data only ever change together, as along one budget."""
    x, y, z = np.log(runs.n_params), np.log(runs.n_tokens), np.log(runs.loss)
    if abs(np.corrcoef(x, y)[0, 1]) > TOGETHER:
        return None
    columns = np.stack([x, y, np.ones_like(x)], 1)
    return float(np.linalg.lstsq(columns, z, rcond=None)[0][1])


def _grouped(ordered: Array, gap_log: float) -> list[Array]:
    """Ascending values, cut wherever the next is further away than the gap."""
    cuts = np.flatnonzero(np.diff(np.log(ordered)) > gap_log) + 1
    return np.split(ordered, cuts)
