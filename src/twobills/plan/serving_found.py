"""One way to serve with all that is shown of it, and curves of many."""

from __future__ import annotations

from typing import NamedTuple

from twobills.counts.layouts import Column
from twobills.plan.interval import Interval, around
from twobills.plan.serving import log_sigma_of
from twobills.plan.serving_one_pool import NO_POOL, Candidates
from twobills.plan.serving_priced import Priced
from twobills.plan.serving_space import ServingOffer, Space
from twobills.specs.load import Load
from twobills.specs.serving_calibration import ServingCalibration
from twobills.specs.weight_format import WeightFormat
from twobills.units import MEGA


class Spread(NamedTuple):
    """Degrees of parallelism of one instance."""

    tp: int
    pp: int
    ep: int
    dp: int

    @property
    def n_chips(self) -> int:
        """Chips of one instance."""
        return self.tp * self.pp * self.dp


class FoundServing(NamedTuple):
    """One way to serve."""

    offer: ServingOffer
    weights: WeightFormat
    kv: WeightFormat
    spread: Spread
    batch: int
    """Sequences that one instance runs; of the decode pool, where there are two pools."""
    most_running: int
    """Sequences that its memory holds."""
    n_instances: int
    reading: Spread | None
    """An instance of the pool that reads prompts; None where instances read their own."""
    prompts: int
    """That it reads at once."""
    n_reading: int
    n_chips: int
    ttft_s: Interval
    tpot_s: Interval
    request_s: Interval
    """From request to last token."""
    tokens_per_s: Interval
    """Of answers, all instances."""
    tokens_per_s_per_chip: float
    tokens_per_s_per_user: float
    requests_per_s: float
    usd_per_mtok: Interval
    """A million tokens of answers, their prompts included."""
    usd_per_request: float
    meets: bool
    excess: float
    """The worst of its figures over its target; chips over those offered count. 1 or less meets all."""


class Curve(NamedTuple):
    """The front of one kind of chip with one pool, or with two: columns, quickest first."""

    offer: ServingOffer
    two_pools: bool
    tokens_per_s_per_user: Column
    tokens_per_s_per_chip: Column
    usd_per_mtok: Column


def found_serving(space: Space, load: Load, calibration: ServingCalibration, found: Priced, k: int) -> FoundServing:
    """Row ``k`` with the step forecast's intervals."""
    row = Candidates._make(column[k] for column in found.rows)
    layout, reading = int(row.layout), int(row.reading)
    offer = space.offers[int(found.offer[k])]
    sigma = log_sigma_of(offer.cluster, space.engine, calibration)
    usd = float(found.usd_per_token[k])
    tokens_per_s = float(row.answers_per_s) * load.answer_tokens
    return FoundServing(
        offer=offer,
        weights=space.weights[int(space.layouts.weights[layout])],
        kv=space.kvs[int(space.layouts.kv[layout])],
        spread=_spread(space, layout),
        batch=int(row.batch),
        most_running=int(row.most_running),
        n_instances=int(row.n_instances),
        reading=None if reading == NO_POOL else _spread(space, reading),
        prompts=int(row.prompts),
        n_reading=int(row.n_reading),
        n_chips=int(row.n_chips),
        ttft_s=around(float(row.ttft_s), sigma),
        tpot_s=around(float(row.tpot_s), sigma),
        request_s=around(float(found.request_s[k]), sigma),
        tokens_per_s=around(tokens_per_s, sigma),
        tokens_per_s_per_chip=1 / float(found.chip_s_per_token[k]),
        tokens_per_s_per_user=1 / float(row.tpot_s),
        requests_per_s=float(row.answers_per_s),
        usd_per_mtok=around(usd * MEGA, sigma),
        usd_per_request=usd * load.answer_tokens,
        meets=bool(found.excess[k] <= 1),
        excess=float(found.excess[k]),
    )


def _spread(space: Space, layout: int) -> Spread:
    row = space.layouts
    return Spread(*(int(column[layout]) for column in (row.tp, row.pp, row.ep, row.dp)))
