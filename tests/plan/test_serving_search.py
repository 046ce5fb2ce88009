"""The search for the best way to serve: nothing better is missed, nothing dominated is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan.test_serving_space import CALIBRATION, offer
from twobills.errors import SpecError
from twobills.plan.serving_priced import Targets, priced
from twobills.plan.serving_search import ServingObjective, ServingSearch, search_serving
from twobills.plan.serving_space import ServingOffer, Space, serving_space
from twobills.specs import catalog
from twobills.specs.engine import Engine
from twobills.specs.load import Load
from twobills.specs.weight_format import FORMATS

LOAD = Load(prompt_tokens=4000, answer_tokens=500)
SLO = Targets(ttft_s=1.0, tpot_s=0.02)
FORMATS_8 = ("bf16", "fp8")


def space(*offers: ServingOffer, model: str = "llama-3.1-8b") -> Space:
    kvs = [FORMATS["bf16"]]
    return serving_space(catalog.model(model), offers, kvs=kvs, engine=Engine.SERVER, calibration=CALIBRATION)


def search(
    *offers: ServingOffer,
    load: Load = LOAD,
    targets: Targets = SLO,
    objective: ServingObjective = ServingObjective.DOLLARS,
) -> ServingSearch:
    return search_serving(space(*offers), load, targets, CALIBRATION, objective=objective, top=8)


ONE = offer("h200", 8, *FORMATS_8)
FOUND = search(ONE)


def test_the_winner_is_the_cheapest_of_all_that_meets_the_targets() -> None:
    every = priced(space(ONE), LOAD, SLO)
    meets = (every.rows.ttft_s <= 1.0) & (every.rows.tpot_s <= 0.02) & (every.rows.n_chips <= 8)
    assert FOUND.n_meet == meets.sum() < FOUND.n_candidates == len(every.excess)
    assert FOUND.ranking[0].usd_per_mtok.value == pytest.approx(1e6 * every.usd_per_token[meets].min())
    assert FOUND.ranking[0] == FOUND.best[0] == FOUND.modes[0]


def test_the_ranking_is_in_order_and_its_ways_differ() -> None:
    dollars = [way.usd_per_mtok.value for way in FOUND.ranking]
    assert dollars == sorted(dollars)
    assert all(way.meets and way.ttft_s.value <= 1.0 and way.tpot_s.value <= 0.02 for way in FOUND.ranking)
    assert len({(way.weights.name, way.spread, way.reading) for way in FOUND.ranking}) == 8


def test_each_objective_wins_by_its_own_measure() -> None:
    best = {objective: search(ONE, objective=objective).ranking[0] for objective in ServingObjective}
    for way in best.values():
        assert best[ServingObjective.DOLLARS].usd_per_mtok.value <= way.usd_per_mtok.value
        assert best[ServingObjective.THROUGHPUT].tokens_per_s.value >= way.tokens_per_s.value
        assert best[ServingObjective.LATENCY].request_s.value <= way.request_s.value


def test_dollars_are_chips_for_the_time_of_a_million_tokens() -> None:
    way = FOUND.ranking[0]
    assert way.usd_per_mtok.value == pytest.approx(1e6 * way.n_chips * 1e-3 / way.tokens_per_s.value)
    assert way.tokens_per_s_per_chip == pytest.approx(way.tokens_per_s.value / way.n_chips)
    assert way.usd_per_request == pytest.approx(way.usd_per_mtok.value * 500 / 1e6)
    assert way.usd_per_mtok.p5 < way.usd_per_mtok.value < way.usd_per_mtok.p95


def test_nothing_on_the_front_is_beaten() -> None:
    found = search(ONE, offer("h100-sxm", 8, *FORMATS_8, usd=0.7e-3))
    assert len(found.front) > 2
    costs = np.array([(w.tpot_s.value, 1 / w.tokens_per_s_per_chip, w.usd_per_mtok.value) for w in found.front])
    for row in costs:
        beaten = (costs <= row).all(axis=1) & (costs < row).any(axis=1)
        assert not beaten.any()
    cheapest = search(ONE, targets=Targets(ttft_s=1.0)).ranking[0]
    assert min(way.usd_per_mtok.value for way in FOUND.front) == pytest.approx(cheapest.usd_per_mtok.value)


@settings(max_examples=12, deadline=None)
@given(st.floats(0.006, 0.1), st.floats(1.0, 3.0))
def test_a_looser_target_is_never_dearer(tpot_s: float, looser: float) -> None:
    tight, loose = (search(ONE, targets=Targets(1.0, limit)) for limit in (tpot_s, tpot_s * looser))
    if tight.n_meet:
        assert loose.ranking[0].usd_per_mtok.value <= tight.ranking[0].usd_per_mtok.value * (1 + 1e-9)
        assert loose.n_meet > 0


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(["memory_bytes_per_s", "memory_bytes", "scaleup_bytes_per_s"]), st.floats(1.0, 3.0))
def test_a_better_chip_is_never_dearer(figure: str, factor: float) -> None:
    one = offer("h200", 4)
    chip = replace(one.cluster.chip, **{figure: getattr(one.cluster.chip, figure) * factor})
    better = one._replace(cluster=replace(one.cluster, chip=chip))
    before, after = search(one), search(better)
    assert after.ranking[0].usd_per_mtok.value <= before.ranking[0].usd_per_mtok.value * 1.005, "but for thinned pairs"


def test_a_rate_takes_more_chips_the_higher_it_is() -> None:
    chips = []
    for rate in (2.0, 10.0, 30.0):
        found = search(offer("h200", 64, *FORMATS_8), load=replace(LOAD, requests_per_s=rate))
        assert found.fewest is not None
        assert found.fewest.n_chips == min(way.n_chips for way in found.ranking)
        assert found.ranking[0].requests_per_s == rate
        chips.append(found.fewest.n_chips)
    assert chips == sorted(chips)
    assert chips[0] < chips[-1]


def test_too_few_chips_for_a_rate_is_a_miss() -> None:
    found = search(offer("h200", 1), load=replace(LOAD, requests_per_s=100.0))
    assert found.n_meet == 0
    assert found.fewest is None
    assert not found.ranking[0].meets
    assert found.ranking[0].n_chips > 1


def test_where_nothing_is_quick_enough_the_closest_comes_first() -> None:
    found = search(ONE, targets=Targets(ttft_s=1.0, tpot_s=1e-5))
    assert found.n_meet == 0
    assert found.ranking[0].excess == min(way.excess for way in found.ranking) > 1
    assert found.ranking[0].tpot_s.value == min(way.tpot_s.value for way in found.ranking)


def test_chips_are_ranked_by_price_when_it_is_dollars() -> None:
    dear, cheap = offer("b200", 8, usd=1.0), offer("h100-sxm", 8, usd=1e-4)
    assert search(dear, cheap).best[0].offer.cluster.chip.name == "h100-sxm"
    assert search(dear, cheap, objective=ServingObjective.THROUGHPUT).best[0].offer.cluster.chip.name == "b200"


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(SpecError, match="has positions for 131072"):
        search(ONE, load=Load(prompt_tokens=131072, answer_tokens=1))
