"""Steps of different models as one table, so that they are timed in one pass: operations are matched by name.

A model that lacks an operation has a row of zeros there, which takes no time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from twobills.counts.layouts import Column, Layouts
from twobills.counts.sharded_params import ShardedParams
from twobills.counts.sharded_step import StepWork, Transfer, Work

T = TypeVar("T", Work, Transfer)


def stacked(steps: Sequence[StepWork]) -> StepWork:
    """All rows of all steps, in order."""
    sizes = [len(step.n_layers) for step in steps]
    return StepWork(
        layouts=Layouts(*(np.concatenate(columns) for columns in zip(*(s.layouts for s in steps), strict=True))),
        n_layers=np.concatenate([s.n_layers for s in steps]),
        params=ShardedParams(*(np.concatenate(columns) for columns in zip(*(s.params for s in steps), strict=True))),
        work=tuple(_matched([s.work for s in steps], sizes)),
        transfers=tuple(_matched([s.transfers for s in steps], sizes)),
    )


def _matched(lists: Sequence[Sequence[T]], sizes: Sequence[int]) -> Iterator[T]:
    by_name = [{part.name: part for part in parts} for parts in lists]
    shared = {"name", "kind", "place", "pattern", "hidden"}
    for name in dict.fromkeys(name for parts in by_name for name in parts):
        like = next(parts[name] for parts in by_name if name in parts)
        columns = {
            field: np.concatenate([_column(parts.get(name), field, n) for parts, n in zip(by_name, sizes, strict=True)])
            for field in like._fields
            if field not in shared
        }
        yield like._replace(**columns)  # type: ignore[arg-type]


def _column(part: T | None, field: str, n: int) -> Column:
    absent = 1.0 if field in {"group", "stride"} else 0.0
    return np.broadcast_to(absent if part is None else getattr(part, field), n)
