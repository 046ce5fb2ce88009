"""Both bills over a life: closed forms, versions, growth, and what must hold whatever the numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import SpecError
from twobills.plan.interval import Spread
from twobills.plan.life import (
    LifeCase,
    Serving,
    constant_lives,
    crossover_days,
    inference_share,
    life,
    live,
    requests_per_day,
)
from twobills.plan.life_uncertainty import CERTAIN, Doubt, survey
from twobills.plan.tornado import Assumption, Side, tornado
from twobills.specs.life import Demand, DemandPoint, LifeSpec
from twobills.units import DAYS_PER_YEAR

MONTH = DAYS_PER_YEAR / 12
SERVING = Serving(usd_per_request=0.01, usd_per_machine_day=2.0, requests_per_machine_day=200.0)
"""At most 160 requests a day on a machine of $2 a day: 0.8 of 200."""


def case(training_usd: float = 1000.0, *, requests: float = 1600.0, **spec: float) -> LifeCase:
    return LifeCase(training_usd, SERVING, LifeSpec(demand=Demand(requests_per_day=requests), **spec))


def total(lives: LifeCase) -> float:
    bills = live(lives)
    return float(bills.at_end(bills.training_usd) + bills.at_end(bills.inference_usd))


def test_a_constant_life_by_hand() -> None:
    """1600 requests a day are 10 machines at 160 each, $20 a day: $1000 are reached on day 50."""
    bills = live(case())
    assert set(bills.n_machines) == {10}
    assert crossover_days(bills) == pytest.approx([50])
    assert bills.at_end(bills.inference_usd) == pytest.approx(20 * 2 * DAYS_PER_YEAR)
    assert bills.at_end(bills.used_usd) == pytest.approx(16 * 2 * DAYS_PER_YEAR)
    assert bills.at_end(bills.training_usd) == 1000
    assert float(inference_share(bills)) == pytest.approx(14610 / 15610)


def test_one_request_more_takes_one_machine_more_and_none_takes_one() -> None:
    assert live(case(requests=1601)).n_machines[0] == 11
    assert live(case(requests=0.001)).n_machines[0] == 1
    assert live(case(peak_over_mean=2)).n_machines[0] == 20


@given(st.floats(1.0, 1e9), st.floats(1.0, 1e6))
def test_a_constant_life_agrees_with_the_closed_form(training_usd: float, requests: float) -> None:
    bills = live(case(training_usd, requests=requests))
    usd_per_day = float(bills.n_machines[0]) * SERVING.usd_per_machine_day
    expected = training_usd / usd_per_day
    found = float(crossover_days(bills)[0])
    assert found == pytest.approx(expected, rel=1e-6) if expected < 100 * DAYS_PER_YEAR else math.isinf(found)


def test_cheaper_chips_and_discount_are_integrated_exactly() -> None:
    """$20 a day at 30 % less a year and 10 % discount: integral of 20 exp(-kt) with k = ln(1.1 / 0.7) a year."""
    bills = live(case(price_decline_frac=0.3, discount_frac=0.1))
    decay = math.log(1.1 / 0.7)
    assert bills.at_end(bills.inference_usd) == pytest.approx(
        20 * DAYS_PER_YEAR * (1 - math.exp(-2 * decay)) / decay, rel=1e-9
    )


def test_growth_is_compounded_then_decline() -> None:
    demand = Demand(requests_per_day=100, growth_frac=0.5, growth_months=2, decline_frac=0.2)
    days = np.array([0.0, MONTH, 2 * MONTH, 3 * MONTH, 4 * MONTH])
    assert requests_per_day(demand, days) == pytest.approx([100, 150, 225, 180, 144])


def test_growing_traffic_adds_up_to_its_integral() -> None:
    growing = LifeCase(1.0, SERVING, LifeSpec(demand=Demand(requests_per_day=1000, growth_frac=0.1), years=1))
    bills = live(growing)
    rate = math.log(1.1) / MONTH
    assert bills.at_end(bills.requests) == pytest.approx(1000 * (1.1**12 - 1) / rate, rel=1e-4)


def test_a_table_is_straight_between_its_rows() -> None:
    demand = Demand(table=(DemandPoint(0, 100), DemandPoint(10, 200)))
    assert requests_per_day(demand, np.array([0.0, 5.0, 10.0, 99.0])) == pytest.approx([100, 150, 200, 200])


def test_each_version_pays_its_training_again_at_the_price_of_its_day() -> None:
    """Two years with a version every 6 months: at 0, 6, 12 and 18 months, none as the life ends."""
    bills = live(case(version_months=6))
    assert bills.at_end(bills.training_usd) == 4000
    cheaper = live(case(version_months=12, price_decline_frac=0.5))
    assert cheaper.at_end(cheaper.training_usd) == pytest.approx(1500)


def test_a_version_puts_the_crossing_off() -> None:
    """$2 a day up to day 100, then $20; $1000 of training at once and every 91.3 days, so $3000 from day 182.6 on."""
    later = Demand(table=(DemandPoint(0, 160), DemandPoint(100, 160), DemandPoint(100.0001, 1600)))
    one, every = (LifeSpec(demand=later, version_months=months) for months in (None, 3))
    assert crossover_days(live(LifeCase(1000, SERVING, one))) == pytest.approx([100 + 800 / 20], rel=1e-4)
    assert crossover_days(live(LifeCase(1000, SERVING, every))) == pytest.approx([100 + 2800 / 20], rel=1e-4)


def test_versions_that_cost_more_than_answers_are_never_overtaken() -> None:
    assert crossover_days(live(case(version_months=3))) == pytest.approx([50])
    assert crossover_days(live(case(version_months=1.5))) == [math.inf]  # $1000 every 45.7 days, $913 of answers


def test_free_training_is_overtaken_at_once_and_free_answers_never_overtake() -> None:
    assert crossover_days(live(case(0.0))) == [0]
    free = LifeCase(1.0, Serving(0.0, 0.0, 200.0), LifeSpec(demand=Demand(requests_per_day=1)))
    assert crossover_days(live(free)) == [math.inf]


@given(
    st.floats(1.0, 1e8),
    st.floats(1.0, 1e5),
    st.floats(0.0, 0.3),
    st.floats(0.0, 0.9),
    st.floats(0.0, 0.3),
    st.one_of(st.none(), st.floats(1.0, 30.0)),
)
def test_whatever_the_life(
    training: float, requests: float, growth: float, decline: float, discount: float, version: float | None
) -> None:
    """Bills never shrink; whole machines cost no less than the time used; half the price is half of each bill."""
    demand = Demand(requests_per_day=requests, growth_frac=growth)
    spec = LifeSpec(demand=demand, price_decline_frac=decline, discount_frac=discount, version_months=version)
    lives = LifeCase(training, SERVING, spec)
    bills = live(lives)
    for column in (bills.requests, bills.training_usd, bills.inference_usd, bills.used_usd):
        assert (np.diff(column) >= 0).all()
    assert (bills.inference_usd >= bills.used_usd * (1 - 1e-9)).all()
    half = live(LifeCase(training / 2, Serving(0.005, 1.0, 200.0), spec))
    assert half.inference_usd == pytest.approx(bills.inference_usd / 2)
    assert crossover_days(half) == pytest.approx(crossover_days(bills), rel=1e-9)
    assert total(LifeCase(training, SERVING, replace(spec, discount_frac=discount + 0.1))) <= total(lives)


@given(st.floats(1.0, 1e8), st.floats(1.0, 1e6), st.floats(1.0, 10.0))
def test_more_traffic_never_crosses_later_and_dearer_training_never_sooner(
    training: float, requests: float, factor: float
) -> None:
    days = crossover_days(live(case(training, requests=requests)))
    assert crossover_days(live(case(training, requests=requests * factor))) <= days * (1 + 1e-9)
    assert crossover_days(live(case(training * factor, requests=requests))) >= days * (1 - 1e-9)


def test_constant_lives_agree_with_the_life() -> None:
    """10 machines at 1600 requests a day, $20; used: $16."""
    point = constant_lives(case(), (1600.0,))[0]
    assert (point.n_machines, point.reserved_usd_per_day, point.usd_per_day) == (10, 20, 16)
    assert point.reserved_crossover_days == pytest.approx(float(crossover_days(live(case()))[0]))


def test_many_samples_at_once_are_each_of_their_own() -> None:
    trainings = np.array([[500.0], [1000.0], [2000.0]])
    bills = live(LifeCase(trainings, SERVING, case().spec), demand_factor=np.array([[1.0], [2.0], [1.0]]))
    assert crossover_days(bills) == pytest.approx([25, 25, 100])


def test_percentiles_are_those_of_the_intervals_given() -> None:
    """With training alone in doubt, a constant life's crossing is in doubt by the same factors."""
    surveyed = survey(case(requests=1e6), Doubt(Spread(0.5, 3.0), CERTAIN), n_samples=20_000)
    days = surveyed.figures.crossover_days
    assert days.p5 / days.value == pytest.approx(0.5, rel=0.03)
    assert days.p95 / days.value == pytest.approx(3.0, rel=0.03)
    assert surveyed.figures.inference_usd.p5 == surveyed.figures.inference_usd.p95


def test_the_same_seed_gives_the_same_figures_and_another_other_ones() -> None:
    doubt = Doubt(Spread(0.5, 2.0), Spread(0.7, 1.5), Spread(0.5, 2.0))
    figures = [survey(case(), doubt, seed=seed).figures for seed in (1, 1, 2)]
    assert figures[0] == figures[1] != figures[2]
    for interval in figures[0]:
        assert interval.p5 <= interval.value <= interval.p95


def test_slower_serving_needs_more_machines() -> None:
    surveyed = survey(case(requests=1e6), Doubt(CERTAIN, Spread(0.5, 2.0)), n_samples=20_000)
    machines, share = surveyed.figures.first_n_machines, surveyed.figures.inference_share
    assert machines.p95 / machines.value == pytest.approx(2, rel=0.03)
    assert share.p5 < share.value < share.p95


def test_a_crossing_that_some_samples_never_reach_has_no_end() -> None:
    surveyed = survey(case(600_000.0), Doubt(Spread(0.5, 2.0), CERTAIN))
    assert surveyed.figures.crossover_days.value == pytest.approx(30_000)
    assert math.isinf(surveyed.figures.crossover_days.p95)


def test_the_tornado_puts_the_widest_swing_first() -> None:
    def assumption(name: str, low: LifeCase, high: LifeCase) -> Assumption:
        return Assumption(name, Side("low", low), Side("high", high), f"--{name}")

    swings = tornado(
        [
            assumption("training", case(500), case(2000)),
            assumption("nothing", case(), case()),
            assumption("traffic", case(requests=800), case(requests=3200)),
        ]
    )
    assert [swing.name for swing in swings] == ["traffic", "training"]
    assert swings[1].usd == pytest.approx(1500)
    assert (swings[1].low.crossover_days, swings[1].high.crossover_days) == pytest.approx((25, 100))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"demand": Demand(requests_per_day=1), "years": 0.0}, "years=0: must be above 0"),
        ({"demand": Demand(requests_per_day=1), "fill_frac": 1.0}, "fill=1: must be above 0 and below 1"),
        ({"demand": Demand(requests_per_day=1), "price_decline_frac": 1.0}, "price_decline=1"),
        ({"demand": Demand(requests_per_day=1), "version_months": 0.5}, "version_months=0.5: must be at least 1"),
    ],
)
def test_a_life_that_cannot_be_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        LifeSpec(**wrong)


def test_traffic_that_cannot_be_is_refused() -> None:
    with pytest.raises(SpecError, match="without traffic there is no second bill"):
        Demand(requests_per_day=0)
    with pytest.raises(SpecError, match="without traffic there is no second bill"):
        Demand(table=(DemandPoint(0, 0),))
    with pytest.raises(SpecError, match="grow from row to row"):
        Demand(table=(DemandPoint(5, 1), DemandPoint(5, 2)))
    with pytest.raises(SpecError, match="must stop growing at some month"):
        Demand(requests_per_day=1, growth_frac=0.1, decline_frac=0.1)
    with pytest.raises(SpecError, match="training_usd=-1"):
        live(case(-1.0))


def test_constant_demands_cross_in_proportion() -> None:
    points = life(100.0, 0.01, 2.0)
    days = [point.crossover_days or 0.0 for point in points]
    assert [a / b for a, b in pairwise(days)] == pytest.approx([10] * (len(points) - 1))
