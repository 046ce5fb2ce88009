"""Ways to serve with their price, and how far they are from latency targets.

Dollars are those of all chips of all instances for as long as they run, over the tokens that they answer with: prompts
are in the price of answers. Who of input, cached input and output pays what is ``plan.serving``'s bill.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from twobills.counts.layouts import Column
from twobills.plan.serving_one_pool import Candidates, aggregated, joined, running
from twobills.plan.serving_space import Rows, Space
from twobills.plan.serving_two_pools import disaggregated
from twobills.specs.load import Load


class Targets(NamedTuple):
    """At most; None is anything."""

    ttft_s: float | None = None
    tpot_s: float | None = None


class Priced(NamedTuple):
    """Columns: candidates and what they are judged by."""

    rows: Candidates
    offer: Rows
    usd_per_token: Column
    chip_s_per_token: Column
    request_s: Column
    excess: Column


def priced(space: Space, load: Load, targets: Targets) -> Priced:
    """All candidates with one pool and with two, each held against the targets."""
    states = running(space, load)
    rows = joined([aggregated(space, load, states), *disaggregated(space, load, states, tpot_s=targets.tpot_s)])
    offer = space.layouts.offer[rows.layout]
    usd_per_chip_s = np.array([each.usd_per_chip_s for each in space.offers])[offer]
    offered = np.array([float(each.cluster.n_chips) for each in space.offers])[offer]
    chip_s = rows.n_chips / (rows.answers_per_s * load.answer_tokens)
    excess = rows.n_chips / offered
    for value, target in ((rows.ttft_s, targets.ttft_s), (rows.tpot_s, targets.tpot_s)):
        excess = excess if target is None else np.maximum(excess, value / target)
    return Priced(
        rows=rows,
        offer=offer,
        usd_per_token=chip_s * usd_per_chip_s,
        chip_s_per_token=chip_s,
        request_s=rows.ttft_s + rows.tpot_s * (load.answer_tokens - 1),
        excess=excess,
    )
