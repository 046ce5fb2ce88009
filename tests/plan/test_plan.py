from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import RATES, machine
from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.laws.published import published_law
from twobills.plan.inference import plan_inference
from twobills.plan.interval import around
from twobills.plan.life import life
from twobills.plan.local import plan_training
from twobills.plan.size_here import choose_size, ladder
from twobills.specs import catalog
from twobills.specs.dtype import DType
from twobills.specs.serving import ServingSpec
from twobills.specs.training import TrainingSpec
from twobills.specs.workload import Workload
from twobills.usage import Phase

MODEL = next(m for m in ladder(vocab_size=4096, max_seq_len=256) if m.d_model == 128)
LAW = published_law("besiroglu-2024")
SERVING = ServingSpec(max_batch_size=16, max_context_len=256, n_kv_blocks=256)


def training(n_steps: int = 100, batch_size: int = 8, heldout_tokens: int = 0, accumulate: int = 1) -> TrainingSpec:
    return TrainingSpec(
        n_steps=n_steps,
        batch_size=batch_size,
        seq_len=256,
        dtype=DType.BF16,
        heldout_tokens=heldout_tokens,
        accumulate=accumulate,
    )


def workload(n_requests: int = 32, **change: int) -> Workload:
    load = {"n_requests": n_requests, "prompt_tokens": 96, "answer_tokens": 64, "concurrency": 8, **change}
    return Workload(**load)


@given(st.integers(1, 10_000))
def test_twice_the_tokens_are_twice_the_pretraining(n_steps: int) -> None:
    one = plan_training(MODEL, training(n_steps), machine(), RATES).bill.usage.phases[Phase.PRETRAIN]
    two = plan_training(MODEL, training(2 * n_steps), machine(), RATES).bill.usage.phases[Phase.PRETRAIN]
    assert two.chip_s == pytest.approx(2 * one.chip_s)
    assert two.flops == pytest.approx(2 * one.flops)
    assert two.tokens == 2 * one.tokens


def test_a_plan_holds_evaluation_and_preparation() -> None:
    bare = plan_training(MODEL, training(), machine(), RATES)
    full = plan_training(MODEL, training(heldout_tokens=20_480), machine(), RATES, corpus_bytes=2e6)
    assert Phase.EVALUATE not in bare.bill.usage.phases
    assert full.bill.usage.phases[Phase.EVALUATE].tokens == 20_480
    prepared = full.bill.line(Phase.PRETRAIN).usage.chip_s - bare.bill.line(Phase.PRETRAIN).usage.chip_s
    assert prepared == pytest.approx(2 * 1.0)  # 2 MB at the assumed 2 MB/s, on two cores


def test_the_interval_is_the_forecasts_error() -> None:
    plan = plan_training(MODEL, training(), machine(), RATES)
    assert plan.total_usd.value == pytest.approx(plan.bill.total_usd)
    assert plan.total_usd.p95 / plan.total_usd.value == pytest.approx(math.exp(1.645 * 0.2), rel=1e-3)
    assert around(1.0, 0.0) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("by_hand", "memory_bytes", "batch_size"), [(False, 16e9, 100_000), (True, 6e7, 8)], ids=["gpu", "cpu"]
)
def test_a_run_that_does_not_fit_is_refused_with_what_would(
    by_hand: bool, memory_bytes: float, batch_size: int
) -> None:
    """What the line says would fit does, and one sequence more does not."""
    here = replace(machine(), by_hand=by_hand, memory_bytes=memory_bytes)
    with pytest.raises(SpecError, match=r"needs .* and cpu-core has .*; batch_size=\d+ is the largest") as raised:
        plan_training(MODEL, training(batch_size=batch_size), here, RATES)
    largest, parts = (int(n) for n in re.findall(r"(?:batch_size|accumulate)=(\d+)", str(raised.value)))
    assert plan_training(MODEL, training(batch_size=largest), here, RATES).memory.fits
    assert plan_training(MODEL, training(batch_size=batch_size, accumulate=parts), here, RATES).memory.fits
    with pytest.raises(SpecError, match="is the largest that fits"):
        plan_training(MODEL, training(batch_size=largest + 1), here, RATES)


def test_parts_count_in_the_largest_batch() -> None:
    gpu, largest = replace(machine(), by_hand=False), r"batch_size=(\d+) is the largest that fits"
    found = []
    for parts in (1, 2):
        with pytest.raises(SpecError, match=largest) as raised:
            plan_training(MODEL, training(batch_size=100_000, accumulate=parts), gpu, RATES)
        found += [int(n) for n in re.findall(largest, str(raised.value))]
    assert found[1] == 2 * found[0]


def test_state_that_fits_no_batch_says_so() -> None:
    """18 bytes a parameter under Muon, 20 of the 1.05 billion of embedding and head."""
    with pytest.raises(SpecError, match=r"weights and optimiser alone take 147 GB"):
        plan_training(catalog.model("llama-3.1-8b"), training(), machine(), RATES)


def sizes(train_s: float) -> list[int]:
    choices = choose_size(
        machine(),
        LAW,
        train_s=train_s,
        n_unique_tokens=3e6,
        vocab_size=4096,
        batch_size=8,
        seq_len=256,
        dtype=DType.BF16,
    )
    assert [c.law_loss for c in choices] == sorted(c.law_loss for c in choices)
    assert all(c.n_tokens * c.step_s / (8 * 256) <= train_s for c in choices)
    return [c.n_params for c in choices]


def test_more_time_makes_a_bigger_model() -> None:
    best = [sizes(train_s)[0] for train_s in (20, 600, 20_000)]
    assert best == sorted(best)
    assert best[0] < best[-1]


def test_no_time_is_too_short_for_any_size() -> None:
    with pytest.raises(SpecError, match="too short for one step"):
        sizes(1e-6)


def test_the_ladder_climbs_with_grouped_queries() -> None:
    models = list(ladder(vocab_size=4096, max_seq_len=256))
    params = [count_params(model).total for model in models]
    assert params == sorted(params)
    assert all(model.n_heads > model.n_kv_heads for model in models)


def test_a_load_is_billed_by_phase() -> None:
    bill = plan_inference(MODEL, SERVING, workload(), machine(), RATES, startup_s=2.0).bill
    phases = bill.usage.phases
    assert phases[Phase.PREFILL].tokens == 32 * 96
    assert phases[Phase.DECODE].tokens == 32 * 63  # each request's first token comes from its prompt's last step
    assert phases[Phase.IDLE].chip_s == pytest.approx(2 * 2.0)
    assert bill.total_usd == pytest.approx(bill.usage.total.chip_s * RATES.usd_per_chip_s)


@pytest.mark.parametrize("change", [{"prompt_tokens": 120}, {"answer_tokens": 100}, {"n_requests": 64}])
def test_more_load_costs_more(change: dict[str, int]) -> None:
    less = plan_inference(MODEL, SERVING, workload(), machine(), RATES)
    more = plan_inference(MODEL, SERVING, workload(**change), machine(), RATES)
    assert more.bill.total_usd > less.bill.total_usd


def test_batching_makes_tokens_cheaper() -> None:
    alone = plan_inference(MODEL, SERVING, workload(concurrency=1), machine(), RATES)
    together = plan_inference(MODEL, SERVING, workload(concurrency=16), machine(), RATES)
    assert together.output_tokens_per_s > 2 * alone.output_tokens_per_s


def test_the_crossing_by_hand() -> None:
    """Training $100, a request $0.01: at 1000 a day ($10) after 10 days; after a year 3652.5 of 3752.5."""
    point = life(100.0, 0.01, 2.0)[0]
    assert point.requests_per_day == 1000
    assert point.usd_per_day == pytest.approx(10)
    assert point.crossover_days == pytest.approx(10)
    assert point.inference_share_after_year == pytest.approx(3652.5 / 3752.5)


@given(st.floats(1e-6, 1e9), st.floats(1e-9, 1e3))
def test_ten_times_the_demand_crosses_in_a_tenth_of_the_time(training_usd: float, usd_per_request: float) -> None:
    points = life(training_usd, usd_per_request, 2.0)
    days = [point.crossover_days or 0.0 for point in points]
    assert [a / b for a, b in pairwise(days)] == pytest.approx([10] * (len(points) - 1))
    shares = [point.inference_share_after_year for point in points]
    assert shares == sorted(shares)


def test_machines_that_are_always_on_by_hand() -> None:
    """A machine of $2 a day; 1000 requests of $0.01 a day fill 5 of them, 10 of them a day not even one."""
    points = life(100.0, 0.01, 2.0, (10.0, 1000.0, 1001.0))
    assert [point.n_machines for point in points] == [1, 5, 6]
    assert [point.reserved_usd_per_day for point in points] == [2.0, 10.0, 12.0]
    assert points[0].reserved_crossover_days == pytest.approx(50)
    assert points[0].crossover_days == pytest.approx(1000)


def test_what_costs_nothing_never_crosses() -> None:
    free = life(1.0, 0.0, 0.0)[0]
    assert free.n_machines is None
    assert free.reserved_crossover_days is None
    point = life(1.0, 0.0, 2.0)[0]
    assert point.crossover_days is None
    assert point.to_json()["reason"] == "inference costs nothing"
    with pytest.raises(SpecError, match="must not be below 0"):
        life(-1.0, 0.0, 2.0)
