from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.sharded import many
from twobills.counts.layouts import layouts_of
from twobills.specs.parallel import ParallelSpec, Recompute, Zero

degrees = st.sampled_from((1, 2, 4, 16, 2048))


@st.composite
def plans(draw: st.DrawFn) -> ParallelSpec:
    dp, cp, pp = draw(degrees), draw(degrees), draw(degrees)
    return ParallelSpec(
        dp=dp,
        tp=draw(degrees),
        pp=pp,
        cp=cp,
        ep=draw(st.sampled_from((1, cp, dp * cp))),
        zero=draw(st.sampled_from(Zero)),
        shard=draw(st.sampled_from((None, dp))) if cp > 1 else None,
        interleave=draw(st.integers(1, 4)) if pp > 1 else 1,
        micro_batch=draw(st.integers(1, 64)),
        recompute=draw(st.sampled_from(Recompute)),
    )


@given(st.lists(plans(), min_size=1, max_size=5))
def test_a_table_gives_back_the_plans_it_was_made_of(given_plans: list[ParallelSpec]) -> None:
    table = layouts_of(given_plans, global_batch=4096, fp8=True)
    assert [table.spec(i) for i in range(len(given_plans))] == given_plans
    assert table.n_chips.tolist() == [plan.n_chips for plan in given_plans]
    assert table.replicas.tolist() == [plan.dp * plan.cp for plan in given_plans]
    assert np.all(table.fp8 == 1)


@given(plans(), st.integers(1, 10**7))
def test_micro_batches_add_up_to_the_batch_of_which_each_replica_runs_one_at_least(plan: ParallelSpec, n: int) -> None:
    table = layouts_of([plan], global_batch=n, fp8=False)
    ran = float((table.dp * table.micro_batch * table.n_micro)[0])
    assert np.isclose(ran, max(n, plan.dp * plan.micro_batch))
    assert table.n_micro[0] >= 1


def test_chosen_rows_are_the_rows_that_were_chosen() -> None:
    table = many()
    rows = np.array([5, 0, 11])
    assert [table.select(rows).spec(i) for i in range(3)] == [table.spec(int(i)) for i in rows]
    wide = table.select(table.tp == 8)
    assert len(wide.dp)
    assert np.all(wide.tp == 8)


def test_degrees_as_large_as_machines_get_do_not_overflow() -> None:
    huge = layouts_of([ParallelSpec(dp=2**20, tp=2**10, pp=2**10, cp=2**10)], global_batch=1, fp8=False)
    assert huge.n_chips[0] == 2.0**50
