"""The best ways to serve a model on offered chips under latency targets: all candidates priced, ranked, and the front.

What meets the targets is ranked; if nothing does, all is ranked by how far it is from them, the worst of its misses
counting. The front is of time per token, chips per token and dollars, among what meets the target for the first token;
on one kind of chip dollars go with chips.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.errors import SpecError
from twobills.plan.pareto import undominated, undominated_of_two
from twobills.plan.serving_found import Curve, FoundServing, found_serving
from twobills.plan.serving_one_pool import NO_POOL
from twobills.plan.serving_priced import Priced, Targets, priced
from twobills.plan.serving_space import Rows, Space
from twobills.specs.load import Load
from twobills.specs.serving_calibration import ServingCalibration
from twobills.units import MEGA


class ServingObjective(StrEnum):
    """What the ranking goes by."""

    DOLLARS = "dollars"
    """Per token."""
    THROUGHPUT = "throughput"
    """Of all chips; where a rate is asked for, of each chip."""
    LATENCY = "latency"
    """From request to last token."""


class ServingSearch(NamedTuple):
    """What was found, best first."""

    best: tuple[FoundServing, ...]
    """Of each kind of chip and weight format."""
    modes: tuple[FoundServing, ...]
    """The best with one pool and the best with two."""
    ranking: tuple[FoundServing, ...]
    """The best that differ in chips, formats or spread."""
    front: tuple[FoundServing, ...]
    """No other beats these in time per token, chips per token and dollars at once; quickest first."""
    curves: tuple[Curve, ...]
    fewest: FoundServing | None
    """The fewest chips, where a rate is asked for and met."""
    n_candidates: int
    n_pairs: int
    """Of those, with two pools."""
    n_meet: int


def search_serving(
    space: Space,
    load: Load,
    targets: Targets,
    calibration: ServingCalibration,
    *,
    objective: ServingObjective = ServingObjective.DOLLARS,
    top: int = 10,
) -> ServingSearch:
    """Every candidate of the space. Raises SpecError if nothing fits in memory or positions."""
    needed = load.prompt_tokens + load.answer_tokens
    if needed > space.model.max_seq_len:
        raise SpecError(
            f"prompt and answer of {needed:g} tokens: {space.model.name} has positions for {space.model.max_seq_len}"
        )
    found = priced(space, load, targets)
    meets = found.excess <= 1
    order = _ordered(found, objective, load) if meets.any() else np.argsort(found.excess, kind="stable")
    order = order[meets[order]] if meets.any() else order
    pools = found.rows.reading != NO_POOL
    key = _keys(found, space)

    def show(rows: Rows) -> tuple[FoundServing, ...]:
        return tuple(found_serving(space, load, calibration, found, int(row)) for row in rows)

    fewest = None
    if load.requests_per_s is not None and meets.any():
        fewest = show(order[[np.argmin(found.rows.n_chips[order])]])[0]
    return ServingSearch(
        best=show(_first(order, np.stack([key.offer, key.weights], axis=1))),
        modes=show(_first(order, pools[:, None])),
        ranking=show(_first(order, np.stack([*key, found.rows.reading.astype(np.intp)], axis=1))[:top]),
        front=show(_front(space, found, targets)),
        curves=_curves(space, found, targets),
        fewest=fewest,
        n_candidates=len(found.excess),
        n_pairs=int(pools.sum()),
        n_meet=int(meets.sum()),
    )


class _Keys(NamedTuple):
    offer: Rows
    weights: Rows
    kv: Rows
    layout: Rows


def _keys(found: Priced, space: Space) -> _Keys:
    layout = found.rows.layout
    return _Keys(found.offer, space.layouts.weights[layout], space.layouts.kv[layout], layout)


def _ordered(found: Priced, objective: ServingObjective, load: Load) -> Rows:
    """Rows, best first; ties go to the quicker."""
    usd, request_s = found.usd_per_token, found.request_s
    rate = found.rows.answers_per_s if load.requests_per_s is None else 1 / found.chip_s_per_token
    keys = {
        ServingObjective.DOLLARS: (request_s, usd),
        ServingObjective.THROUGHPUT: (usd, -rate),
        ServingObjective.LATENCY: (usd, request_s),
    }
    order: Rows = np.lexsort(keys[objective])
    return order


def _first(order: Rows, kinds: NDArray[np.intp] | NDArray[np.bool_]) -> Rows:
    """The first row of each kind, in order."""
    _, first = np.unique(kinds[order], axis=0, return_index=True)
    chosen: Rows = order[np.sort(first)]
    return chosen


def _front(space: Space, found: Priced, targets: Targets) -> Rows:
    """Each offer's own front (its dollars go with its chips), then all of them against each other."""
    early = _early(found, targets)
    kept = np.concatenate([_curve(found, early & (found.offer == i)) for i in range(len(space.offers))])
    if len(space.offers) > 1:
        costs = np.stack([found.rows.tpot_s, found.chip_s_per_token, found.usd_per_token], axis=1, dtype=np.float64)
        kept = kept[undominated(costs[kept])]
    order: Rows = kept[np.argsort(found.rows.tpot_s[kept], kind="stable")]
    return order


def _curve(found: Priced, of: NDArray[np.bool_]) -> Rows:
    """Of these rows, those that no other beats in time per token and chips per token, quickest first."""
    rows = np.flatnonzero(of)
    tpot_s, chip_s = (
        np.asarray(column[rows], dtype=np.float64) for column in (found.rows.tpot_s, found.chip_s_per_token)
    )
    return np.asarray(rows[undominated_of_two(tpot_s, chip_s)])


def _curves(space: Space, found: Priced, targets: Targets) -> tuple[Curve, ...]:
    early, pools = _early(found, targets), found.rows.reading != NO_POOL
    curves = []
    for i, offer in enumerate(space.offers):
        for two_pools in (False, True):
            rows = _curve(found, early & (found.offer == i) & (pools == two_pools))
            if len(rows):
                per_chip, usd = 1 / found.chip_s_per_token[rows], found.usd_per_token[rows] * MEGA
                curves.append(Curve(offer, two_pools, 1 / found.rows.tpot_s[rows], per_chip, usd))
    return tuple(curves)


def _early(found: Priced, targets: Targets) -> NDArray[np.bool_]:
    """What meets the target for the first token; if nothing does, whatever has a first token."""
    if targets.ttft_s is not None and (found.rows.ttft_s <= targets.ttft_s).any():
        return np.asarray(found.rows.ttft_s <= targets.ttft_s)
    return np.isfinite(found.rows.ttft_s)
