from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import rates, usages
from twobills.errors import LedgerError
from twobills.ledger.reconcile import Gaps, reconcile
from twobills.money.bill import Bill, price
from twobills.money.rates import Rates
from twobills.usage import Energy, Job, Origin, Phase, PhaseUsage, Usage

RATES = Rates(usd_per_chip_s=0.01, usd_per_j=0.001, source="a test", as_of="2026-01-01", assumed=False)
PLAN = PhaseUsage(tokens=1000, chip_s=50, energy=Energy(declared_j=200))


def bill(used: PhaseUsage, at: Rates = RATES, phase: Phase = Phase.PRETRAIN, job: Job = Job.TRAINING) -> Bill:
    return price(Usage(job=job, origin=Origin.MEASURED, phases={phase: used}), at)


def causes(gaps: Gaps) -> dict[str, float]:
    return {"work": gaps.work_usd, "speed": gaps.speed_usd, "price": gaps.price_usd}


@given(usages(Job.TRAINING), usages(Job.TRAINING), rates, rates)
def test_gaps_add_up_to_measured_minus_planned(a: Usage, b: Usage, at_a: Rates, at_b: Rates) -> None:
    planned, measured = price(a, at_a), price(b, at_b)
    found = reconcile(planned, measured)
    size = 1e-9 * (1 + planned.total_usd + measured.total_usd + sum(abs(v) for v in causes(found.total).values()))
    assert found.total.total_usd == pytest.approx(measured.total_usd - planned.total_usd, abs=size, rel=1e-6)
    for gaps in found.phases.values():
        assert gaps.total_usd == pytest.approx(gaps.measured_usd - gaps.planned_usd, abs=size, rel=1e-6)


@given(st.floats(min_value=0.1, max_value=10))
def test_more_work_moves_only_the_work_gap(factor: float) -> None:
    gaps = reconcile(bill(PLAN), bill(PLAN.scaled(factor))).total
    assert causes(gaps) == pytest.approx({"work": (factor - 1) * bill(PLAN).total_usd, "speed": 0, "price": 0})


@given(st.floats(min_value=0.1, max_value=10))
def test_a_slower_step_moves_only_the_speed_gap(factor: float) -> None:
    slower = replace(PLAN.scaled(factor), tokens=PLAN.tokens)
    gaps = reconcile(bill(PLAN), bill(slower)).total
    assert causes(gaps) == pytest.approx({"work": 0, "speed": (factor - 1) * bill(PLAN).total_usd, "price": 0})


@given(st.floats(min_value=0.1, max_value=10))
def test_another_price_moves_only_the_price_gap(factor: float) -> None:
    dearer = replace(RATES, usd_per_chip_s=RATES.usd_per_chip_s * factor, usd_per_j=RATES.usd_per_j * factor)
    gaps = reconcile(bill(PLAN), bill(PLAN, dearer)).total
    assert causes(gaps) == pytest.approx({"work": 0, "speed": 0, "price": (factor - 1) * bill(PLAN).total_usd})


def test_the_order_is_work_then_speed_then_price() -> None:
    """W_p=1000, W_m=2000; s_p=0.05, s_m=0.1 chip-s a token; r_p=0.01, r_m=0.03 USD a chip-s; worked by hand."""
    at_p = replace(RATES, usd_per_j=0)
    measured = bill(PhaseUsage(tokens=2000, chip_s=200), replace(at_p, usd_per_chip_s=0.03))
    gaps = reconcile(bill(PhaseUsage(tokens=1000, chip_s=50), at_p), measured).total
    assert gaps.work_usd == pytest.approx((2000 - 1000) * 0.05 * 0.01)
    assert gaps.speed_usd == pytest.approx(2000 * (0.1 - 0.05) * 0.01)
    assert gaps.price_usd == pytest.approx(2000 * 0.1 * (0.03 - 0.01))


def test_time_without_work_is_speed_gap() -> None:
    idle = bill(PhaseUsage(chip_s=30), phase=Phase.IDLE, job=Job.INFERENCE)
    nothing = price(Usage(job=Job.INFERENCE, origin=Origin.PREDICTED), RATES)
    assert causes(reconcile(nothing, idle).total) == pytest.approx({"work": 0, "speed": 0.3, "price": 0})


def test_work_that_was_not_planned_is_work_gap() -> None:
    nothing = price(Usage(job=Job.TRAINING, origin=Origin.PREDICTED), RATES)
    gaps = reconcile(nothing, bill(PLAN)).total
    assert causes(gaps) == pytest.approx({"work": bill(PLAN).total_usd, "speed": 0, "price": 0})


def test_work_that_was_not_done_is_work_gap() -> None:
    nothing = price(Usage(job=Job.TRAINING, origin=Origin.MEASURED), RATES)
    gaps = reconcile(bill(PLAN), nothing).total
    assert causes(gaps) == pytest.approx({"work": -bill(PLAN).total_usd, "speed": 0, "price": 0})


def test_a_plan_is_held_against_its_own_job() -> None:
    with pytest.raises(LedgerError, match="training plan cannot be held against a inference meter"):
        reconcile(bill(PLAN), bill(PhaseUsage(), phase=Phase.IDLE, job=Job.INFERENCE))
