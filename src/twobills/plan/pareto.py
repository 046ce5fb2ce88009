"""Which of many choices no other beats in everything at once: the Pareto front. In every column less is better."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def undominated(costs: Values) -> NDArray[np.bool_]:
    """Which rows of (n, k) no other row equals or beats in every column and beats in one; all columns: less is better.

    One pass over all pairs, so for a few thousand rows; of rows that are equal all stay.
    """
    no_worse = (costs[:, None, :] <= costs[None, :, :]).all(axis=2)
    better = (costs[:, None, :] < costs[None, :, :]).any(axis=2)
    return ~np.asarray((no_worse & better).any(axis=0))


def undominated_of_two(first: Values, second: Values) -> NDArray[np.intp]:
    """Rows that no other beats in both columns, by ``first``; of equal rows one. Sorting, so for millions of rows."""
    order = np.lexsort((second, first))
    falling = np.minimum.accumulate(second[order])
    before = np.concatenate([[np.inf], falling[:-1]])
    kept: NDArray[np.intp] = order[second[order] < before]
    return kept
