"""From which demand on a known model's size pays, in dollars: held against the sizes of the same loss.

Bills are taken as a training and so much for each answer, of machines filled as the life says, without rounding to
whole ones: with rounding the answer would jump with every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from twobills.laws.isoloss import Columns
from twobills.plan.size import NEAR_FRAC, SizeTable

_DEMANDS = np.geomspace(1e3, 1e18, 1501)


class PaysFrom(NamedTuple):
    """Answers over the life."""

    pays_from_answers: float | None
    """From which the model is cheaper than the compute-optimal one; None if it never is, or always."""
    always: bool
    """Whether it is cheaper for any demand."""
    best_at_answers: float
    """For which it is nearest to the cheapest size."""
    over_best_frac: float
    """What it costs there above the cheapest size."""
    near_best_from_answers: float | None
    near_best_to_answers: float | None
    """Between which it costs at most ``NEAR_FRAC`` more than the cheapest size; None: never, or without end."""


def pays_from(own: SizeTable, compute_optimal: SizeTable, sizes: SizeTable, pairs: Sequence[int]) -> PaysFrom | None:
    """The model, alone in a table, against the compute-optimal size and against all; None if one is unpriced."""
    (mine, my_answer), (theirs, their_answer) = (_lines(table, pairs) for table in (own, compute_optimal))
    if not np.isfinite([mine[0], my_answer[0], theirs[0], their_answer[0]]).all():
        return None
    extra, saved = float(mine[0] - theirs[0]), float(their_answer[0] - my_answer[0])
    training, per_answer = _lines(sizes, pairs)
    others = training[:, None] + per_answer[:, None] * _DEMANDS
    bill = mine[0] + my_answer[0] * _DEMANDS
    least = np.minimum(np.nanmin(np.where(np.isfinite(others), others, np.inf), axis=0), bill)
    near = np.flatnonzero(bill <= least * (1 + NEAR_FRAC))
    best = int(np.argmin(bill / least))
    return PaysFrom(
        pays_from_answers=extra / saved if extra > 0 and saved > 0 else None,
        always=extra <= 0 and saved >= 0,
        best_at_answers=float(_DEMANDS[best]),
        over_best_frac=float(bill[best] / least[best] - 1),
        near_best_from_answers=float(_DEMANDS[near[0]]) if len(near) else None,
        near_best_to_answers=float(_DEMANDS[near[-1]]) if len(near) and near[-1] < len(_DEMANDS) - 1 else None,
    )


def _lines(table: SizeTable, pairs: Sequence[int]) -> tuple[Columns, Columns]:
    """Each size's training and its dollars for an answer, each on its cheapest chips."""
    training = (table.train_usd_per_token * table.n_tokens[:, None]).min(axis=1)
    answers = [
        min((way.usd_per_answer for i in pairs if (way := row[i]) is not None), default=math.inf)
        for row in table.served
    ]
    return np.asarray(training), np.array(answers)
