"""The search for the best way to train: nothing better is missed, nothing dominated is kept."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twobills.errors import SpecError
from twobills.money.rates import Rates
from twobills.perf.achieved import achieved
from twobills.plan.evaluate import evaluate
from twobills.plan.interval import Spread
from twobills.plan.search import (
    Job,
    Objective,
    Offer,
    SearchResult,
    search_training,
    timed,
)
from twobills.plan.space import EVERY, Fixed, layouts_for
from twobills.plan.training import plan_run
from twobills.specs import catalog
from twobills.specs.calibration import published_calibration
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.parallel import Stack
from twobills.specs.run import TrainingRun
from twobills.specs.running import default_running

MODEL = catalog.model("llama-3.1-8b")
JOB = Job(MODEL, 1e12, 8192, 512, Fixed(), default_running())
BOTH = (DType.BF16, DType.FP8)
HOURS = Spread(0.8, 2.5)


def offer(name: str = "h100-sxm", n_chips: int = 64, *, usd: float = 1e-3, dtypes: tuple[DType, ...] = BOTH) -> Offer:
    cluster = ClusterSpec(chip=catalog.chip(name), n_chips=n_chips)
    return Offer(cluster, achieved(cluster, Stack.OVERLAPPED, published_calibration()), HOURS, usd, dtypes)


def search(
    *offers: Offer,
    objective: Objective = Objective.TIME,
    top: int = 10,
    max_wall_s: float | None = None,
    job: Job = JOB,
) -> SearchResult:
    return search_training(job, offers, objective=objective, top=top, max_wall_s=max_wall_s)


def test_the_fastest_is_the_fastest_of_the_whole_table() -> None:
    one = offer()
    layouts = layouts_for(
        MODEL, one.cluster, global_batch=512, seq_len=8192, fixed=Fixed(), fp8=[False, True], breadth=EVERY
    )
    whole = evaluate(MODEL, layouts, one.rates, seq_len=8192, memory_bytes=one.cluster.memory_bytes)
    found = search(one)
    assert found.best[0].step_s == whole.time.seconds[whole.fits].min()
    assert found.n_plans == len(layouts.dp)
    assert found.n_fit == whole.fits.sum() < found.n_plans


def test_blocks_of_rows_time_as_the_whole_table_does(monkeypatch: pytest.MonkeyPatch) -> None:
    one = offer()
    layouts = layouts_for(MODEL, one.cluster, global_batch=512, seq_len=8192, fixed=Fixed(), fp8=[False, True])
    whole = timed(MODEL, layouts, one, 8192)
    monkeypatch.setattr("twobills.plan.search.BLOCK_ROWS", 37)
    for column, in_blocks in zip(whole, timed(MODEL, layouts, one, 8192), strict=True):
        assert np.array_equal(column, in_blocks)


def test_the_front_gives_up_time_only_for_memory_on_one_cluster() -> None:
    front = search(offer()).front
    assert len(front) > 1
    for quicker, slower in pairwise(front):
        assert quicker.step_s < slower.step_s
        assert quicker.spare_frac < slower.spare_frac


def test_the_front_holds_each_objectives_winner() -> None:
    offers = (offer(usd=1e-3), offer("b200", 64, usd=4e-3), offer(n_chips=32, usd=1e-3))
    found = search(*offers)
    assert min(plan.wall_s.value for plan in found.front) == found.ranking[0].wall_s.value
    cheapest = search(*offers, objective=Objective.DOLLARS).ranking[0]
    assert min(plan.usd.value for plan in found.front) == pytest.approx(cheapest.usd.value)
    roomiest = search(*offers, objective=Objective.MEMORY).ranking[0]
    assert max(plan.spare_frac for plan in found.front) == pytest.approx(roomiest.spare_frac)


def test_chips_are_ranked_by_what_is_wanted() -> None:
    dear, cheap = offer("b200", usd=1.0), offer("h100-sxm", usd=1e-3)
    assert search(dear, cheap).best[0].offer.cluster.chip.name == "b200"
    assert search(dear, cheap, objective=Objective.DOLLARS).best[0].offer.cluster.chip.name == "h100-sxm"


def test_the_ranking_is_in_order_and_its_plans_differ() -> None:
    ranking = search(offer(), offer(n_chips=32), top=12).ranking
    assert len(ranking) == 12
    assert all(a.wall_s.value <= b.wall_s.value for a, b in pairwise(ranking))
    kinds = {(p.offer.cluster.n_chips, p.spec.tp, p.spec.pp, p.spec.cp, p.spec.ep, p.dtype) for p in ranking}
    assert len(kinds) == 12


def test_shares_of_a_step_are_all_of_it() -> None:
    for plan in search(offer()).ranking:
        parts = (plan.compute_frac, plan.exposed_frac, plan.bubble_frac, plan.straggling_frac)
        assert sum(parts) == pytest.approx(1)


def test_a_plan_costs_its_chips_for_its_time() -> None:
    best = search(offer(usd=2e-3)).best[0]
    assert best.usd.value == pytest.approx(best.wall_s.value * 64 * 2e-3)
    assert best.usd_per_ttoken.value == pytest.approx(best.usd.value), "of a run of one trillion tokens"
    assert best.wall_s.p5 < best.wall_s.value < best.wall_s.p95
    assert best.wall_s.value > 1e12 / best.tokens_per_s, "failures and evaluation take time"


def test_the_run_planned_with_the_winners_settings_is_the_run_that_was_found() -> None:
    one = offer(dtypes=(DType.BF16,))
    best = search(one).best[0]
    spec = best.spec
    names = ("tp", "pp", "cp", "ep", "zero", "shard", "interleave", "micro_batch", "recompute")
    plan = plan_run(
        MODEL,
        TrainingRun(n_tokens=1e12, seq_len=8192, global_batch=512),
        one.cluster,
        Rates(usd_per_chip_s=1e-3, usd_per_j=0, source="a test", as_of="2026-01-01", assumed=True),
        default_running(),
        published_calibration(),
        fixed=Fixed(**{name: getattr(spec, name) for name in names}),
        dp=spec.dp,
    )
    assert plan.step.seconds == pytest.approx(best.step_s)
    assert plan.figures.wall_s.value == pytest.approx(best.wall_s.value)
    assert plan.figures.total_usd.value == pytest.approx(best.usd.value)


def test_a_deadline_drops_what_is_late_from_the_ranking() -> None:
    quick, slow = offer(n_chips=64, usd=1.0), offer(n_chips=16, usd=1e-3)
    between_s = search(quick).best[0].wall_s.value * 1.5
    found = search(quick, slow, objective=Objective.DOLLARS, max_wall_s=between_s)
    assert [plan.offer.cluster.n_chips for plan in found.best] == [64]
    assert all(plan.wall_s.value <= between_s for plan in (*found.ranking, *found.front))
    late = search(quick, slow, max_wall_s=1.0)
    assert len(late.best) == 2, "where everything is late, everything is ranked"


def test_chips_that_cannot_do_it_are_refused_with_their_reason() -> None:
    found = search(offer(), offer(n_chips=1))
    assert len(found.best) == 1
    assert "none of" in found.refused[0].reason
    assert "lacks" in found.refused[0].reason
    with pytest.raises(SpecError, match="on 1 x h100-sxm: none of"):
        search(offer(n_chips=1))


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["memory_bytes_per_s", "scaleup_bytes_per_s", "scaleout_bytes_per_s", "peak_flops_per_s"]),
    st.floats(1.0, 4.0),
)
def test_a_better_chip_is_never_slower(figure: str, factor: float) -> None:
    def faster(value: Any) -> Any:
        return {k: v * factor for k, v in value.items()} if isinstance(value, dict) else value * factor

    one = offer(n_chips=32)
    chip = replace(one.cluster.chip, **{figure: faster(getattr(one.cluster.chip, figure))})
    cluster = replace(one.cluster, chip=chip)
    better = one._replace(cluster=cluster, rates=achieved(cluster, Stack.OVERLAPPED, published_calibration()))
    assert search(better).best[0].step_s <= search(one).best[0].step_s * (1 + 1e-12)


@settings(max_examples=15, deadline=None)
@given(st.floats(2e11, 1e13))
def test_twice_the_tokens_take_twice_the_training(n_tokens: float) -> None:
    once, twice = (search(offer(), job=JOB._replace(n_tokens=n * n_tokens)).best[0] for n in (1, 2))
    assert twice.step_s == once.step_s
    assert twice.usd.value == pytest.approx(2 * once.usd.value, rel=1e-2), (
        "but for the last checkpoint, in runs of days"
    )


def test_chips_whose_links_nobody_knows_do_not_win() -> None:
    one = offer()
    alone = replace(one.cluster.chip, scaleup_bytes_per_s=None, scaleout_bytes_per_s=None)
    cluster = replace(one.cluster, chip=alone)
    unlinked = one._replace(cluster=cluster, rates=achieved(cluster, Stack.OVERLAPPED, published_calibration()))
    with pytest.raises(SpecError, match="neither its links nor its network"):
        search(unlinked)


def test_sequences_longer_than_the_models_are_refused() -> None:
    with pytest.raises(SpecError, match="has positions for 131072"):
        search(offer(), job=JOB._replace(seq_len=200000))


def test_only_formats_that_were_offered_are_used() -> None:
    assert {plan.dtype for plan in search(offer(dtypes=(DType.BF16,))).front} == {DType.BF16}
    assert {plan.dtype for plan in search(offer(dtypes=(DType.FP8,))).front} == {DType.FP8}
