from __future__ import annotations

import pytest

from tests.served import LONG, ONE, load_of, served
from twobills.plan.explain_serving import ENGINE, explain_serving


@pytest.mark.parametrize("n", [1, 300])
def test_the_parts_are_the_step(n: int) -> None:
    plan = served(load_of(concurrency=n), cluster=ONE)
    parts = explain_serving(LONG, plan.served.instance, plan.speed, plan.load, float(plan.steady.n_running[0]))
    assert sum(part.seconds for part in parts) == pytest.approx(plan.figures.tpot_s.value, rel=1e-6)
    assert [part.seconds for part in parts] == sorted((part.seconds for part in parts), reverse=True)
    assert {"memory", ENGINE} <= {part.bound_by for part in parts}
    assert len({part.name for part in parts}) == len(parts)


def test_many_prompts_wait_for_arithmetic() -> None:
    plan = served(load_of(prompt_tokens=4000, answer_tokens=10), cluster=ONE)
    parts = explain_serving(LONG, plan.served.instance, plan.speed, plan.load, float(plan.steady.n_running[0]))
    bound = {name: sum(p.seconds for p in parts if p.bound_by == name) for name in ("compute", "memory")}
    assert bound["compute"] > bound["memory"]
