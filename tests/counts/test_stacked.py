from __future__ import annotations

import numpy as np
import pytest

from tests.sharded import EXPERTS, MODELS, RATES, many, one
from twobills.counts.sharded_step import sharded_step
from twobills.counts.sharded_totals import executed_flops
from twobills.counts.stacked import stacked
from twobills.perf.achieved import table
from twobills.perf.sharded_step import step_time
from twobills.specs import catalog
from twobills.specs.parallel import ParallelSpec

STEPS = [
    *(sharded_step(model, many(32 * (i + 1), ep=4 if model.moe else 1), 2048) for i, model in enumerate(MODELS)),
    sharded_step(EXPERTS, one(ParallelSpec(dp=16, ep=16), fp8=True), 4096),
    sharded_step(catalog.model("deepseek-v3"), one(ParallelSpec(dp=64, pp=2, ep=64), global_batch=256), 4096),
    sharded_step(catalog.model("mixtral-8x22b"), one(ParallelSpec(dp=16, ep=8), global_batch=32), 4096),
]


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_take_the_time_they_take_alone(reverse: bool) -> None:
    """In either order: nothing of the first model may rub off on the others."""
    steps = STEPS[::-1] if reverse else STEPS
    together = step_time(stacked(steps), RATES)
    alone = [step_time(step, RATES) for step in steps]
    for part in together._fields:
        expected = np.concatenate([getattr(time, part) for time in alone])
        assert getattr(together, part) == pytest.approx(expected, rel=1e-12)


def test_rows_execute_what_they_execute_alone() -> None:
    expected = np.concatenate([executed_flops(step) for step in STEPS])
    assert executed_flops(stacked(STEPS)) == pytest.approx(expected, rel=1e-12)


def test_each_row_may_run_at_rates_of_its_own() -> None:
    steps = STEPS[-2:]
    slower = RATES._replace(product_flops_per_s=4e14, slow_bytes_per_s=1e10)
    together = step_time(stacked(steps), table([RATES, slower])).seconds
    alone = [float(step_time(step, rates).seconds[0]) for step, rates in zip(steps, (RATES, slower), strict=True)]
    assert together == pytest.approx(alone, rel=1e-12)


def test_one_step_stacked_is_itself() -> None:
    step = STEPS[0]
    again = stacked([step])
    assert [w.name for w in again.work] == [w.name for w in step.work]
    assert all(np.array_equal(a, b) for a, b in zip(again.layouts, step.layouts, strict=True))
    assert np.array_equal(again.params.updated, step.params.updated)
