"""The space of parallel plans: every rule by itself, and the whole table against loops written plainly."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from twobills.counts.layouts import Layouts
from twobills.errors import SpecError
from twobills.plan.space import EVERY, USUAL, Breadth, Fixed, check_fixed, layouts_for, tensor_degrees
from twobills.specs import catalog
from twobills.specs.cluster import ClusterSpec
from twobills.specs.model import ModelSpec, MoE
from twobills.specs.parallel import Recompute, Zero

DENSE = ModelSpec(
    name="dense",
    n_layers=6,
    d_model=512,
    n_heads=8,
    n_kv_heads=2,
    d_head=64,
    d_ff=1536,
    vocab_size=1024,
    max_seq_len=16384,
)
EXPERTS = replace(DENSE, name="experts", moe=MoE(n_experts=6, n_active_experts=2, d_expert=512, n_dense_first=1))


def cluster(n_chips: int, chip: str = "h100-sxm") -> ClusterSpec:
    return ClusterSpec(chip=catalog.chip(chip), n_chips=n_chips)


def table(
    model: ModelSpec = DENSE,
    *,
    n_chips: int = 16,
    global_batch: float = 32,
    seq_len: int = 8192,
    fixed: Fixed | None = None,
    breadth: Breadth = EVERY,
) -> Layouts:
    return layouts_for(
        model,
        cluster(n_chips),
        global_batch=global_batch,
        seq_len=seq_len,
        fixed=fixed or Fixed(),
        fp8=[False],
        breadth=breadth,
    )


def plainly(model: ModelSpec, n_chips: int, n_fast: int, global_batch: int, seq_len: int) -> set[tuple[int, ...]]:
    """All plans by loops over all numbers up to the chips, each rule a line; written apart from the code it tests."""
    n_experts = model.moe.n_experts if model.moe else 1
    widths = [model.d_ff, *([model.moe.d_expert] if model.moe else [])]
    found: set[tuple[int, ...]] = set()
    up_to = range(1, n_chips + 1)
    for tp, pp, cp, dp in product(up_to, repeat=4):
        if tp * pp * cp * dp != n_chips or global_batch % dp or pp > model.n_layers:
            continue
        if n_fast % tp or model.n_heads % tp or any(width % tp for width in widths):
            continue
        if model.n_kv_heads % tp and tp % model.n_kv_heads:
            continue
        if cp > 1 and (seq_len // cp < 4096 or seq_len % (2 * cp)):
            continue
        if seq_len % (cp * tp):
            continue
        ranks, share = dp * cp, global_batch // dp
        for ep, micro, v, zero, level in product(
            range(1, n_experts + 1), range(1, share + 1), range(1, 9), Zero, Recompute
        ):
            if n_experts % ep or ranks % ep or share % micro:
                continue
            n_micro = share // micro
            if v > 1 and (pp == 1 or v * pp > model.n_layers or n_micro < pp):
                continue
            if v > 1 and all((model.n_layers + tables) % (v * pp) for tables in (0, 1, 2)):
                continue
            if (ranks == 1) != (zero is Zero.NOTHING) and ranks == 1:
                continue
            if zero is Zero.GRADIENTS and n_micro > 1:
                continue
            shards = {ranks}
            within = n_fast // tp
            if zero and 1 < within < ranks and ranks % within == 0 and within % ep == 0:
                shards.add(within)
            found |= {(dp, tp, pp, cp, ep, zero, s, v, micro, level, n_micro) for s in shards}
    return found


@pytest.mark.parametrize(
    ("model", "n_chips", "global_batch", "seq_len"),
    [
        (DENSE, 1, 4, 4096),
        (DENSE, 16, 32, 8192),
        (DENSE, 24, 12, 8192),
        (EXPERTS, 12, 24, 8192),
        (EXPERTS, 16, 8, 16384),
        (replace(DENSE, n_heads=6, n_kv_heads=3, d_ff=1000), 12, 24, 4096),
    ],
)
def test_the_table_is_what_plain_loops_find(model: ModelSpec, n_chips: int, global_batch: int, seq_len: int) -> None:
    found = table(model, n_chips=n_chips, global_batch=global_batch, seq_len=seq_len)
    rows = [tuple(int(cell) for cell in row[:-1]) for row in zip(*found, strict=True)]
    assert set(rows) == plainly(model, n_chips, min(8, n_chips), global_batch, seq_len)
    assert len(rows) == len(set(rows)), "no plan twice"


@pytest.mark.parametrize("model", [DENSE, EXPERTS])
def test_every_row_is_a_valid_spec_of_all_chips(model: ModelSpec) -> None:
    found = table(model, n_chips=24, global_batch=48)
    for i in range(0, len(found.dp), 7):
        assert found.spec(i).n_chips == 24
    assert np.array_equal(found.dp * found.micro_batch * found.n_micro, np.full_like(found.dp, 48))


def test_tensor_parallelism_divides_heads_widths_and_the_fast_domain() -> None:
    assert tensor_degrees(DENSE, cluster(16)) == [1, 2, 4, 8]
    assert tensor_degrees(DENSE, cluster(4)) == [1, 2, 4]
    assert tensor_degrees(replace(DENSE, d_ff=1534), cluster(16)) == [1, 2]
    assert tensor_degrees(replace(DENSE, n_heads=6, n_kv_heads=6), cluster(16)) == [1, 2]
    assert tensor_degrees(replace(DENSE, n_heads=9, n_kv_heads=3), cluster(9)) == [1], "9 chips are no 8-chip domain"
    assert tensor_degrees(replace(DENSE, n_heads=9, n_kv_heads=3), cluster(3)) == [1, 3]


def test_key_value_heads_may_be_held_by_several_ranks_but_not_cut() -> None:
    assert 8 in tensor_degrees(replace(DENSE, n_kv_heads=1), cluster(8))
    three = replace(DENSE, n_heads=24, n_kv_heads=3)
    assert tensor_degrees(three, cluster(8)) == [1], "2, 4 and 8 would cut one of three heads"


def test_experts_widths_are_divided_too() -> None:
    assert EXPERTS.moe is not None
    narrow = replace(EXPERTS, moe=replace(EXPERTS.moe, d_expert=508))
    assert tensor_degrees(narrow, cluster(8)) == [1, 2, 4]


def test_a_sequence_is_divided_by_context_and_tensor_ranks() -> None:
    assert set(table(seq_len=8192).cp) == {1, 2}
    assert set(table(seq_len=8191).tp) == {1}
    assert set(table(seq_len=8194).cp) == {1}, "not two equal parts for each of two ranks"
    assert set(table(seq_len=4096).cp) == {1}


def test_interleaved_pieces_are_equal_where_embedding_and_head_count_as_layers() -> None:
    def pieces(n_layers: int) -> set[float]:
        found = table(replace(DENSE, n_layers=n_layers), global_batch=64, fixed=Fixed(tp=1, pp=4, cp=1))
        return set(found.interleave)

    assert pieces(16) == {1, 2, 4}
    assert pieces(14) == {1, 2}, "14 layers and two tables are four times 4"
    assert pieces(13) == {1}, "13, 14 and 15 are no multiples of 8"
    assert pieces(3 * 16 - 1) == {1, 2, 3, 4, 6}


def test_a_pipeline_is_filled_before_it_is_interleaved() -> None:
    found = table(replace(DENSE, n_layers=16), global_batch=8, fixed=Fixed(tp=1, pp=4, cp=1))
    assert np.all(found.n_micro[found.interleave > 1] >= 4)
    assert np.any(found.n_micro < 4)


def test_zero_2_is_left_out_where_gradients_accumulate() -> None:
    found = table()
    assert np.all(found.n_micro[found.zero == Zero.GRADIENTS] == 1)
    assert np.any(found.zero == Zero.GRADIENTS)


def test_copies_are_shared_out_among_all_or_within_a_fast_domain() -> None:
    found = table(fixed=Fixed(tp=2, pp=1, cp=1, zero=Zero.PARAMETERS))
    assert set(found.shard) == {8, 4}
    assert set(table(fixed=Fixed(tp=2, pp=1, cp=1, zero=Zero.NOTHING)).shard) == {8}
    assert set(table(fixed=Fixed(tp=2, pp=1, cp=1, shard=2)).shard) == {2}


def test_what_is_fixed_stays_fixed() -> None:
    given = Fixed(tp=2, pp=2, cp=2, zero=Zero.OPTIMISER, interleave=3, micro_batch=2, recompute=Recompute.FULL)
    found = table(fixed=given)
    for name in ("tp", "pp", "cp", "zero", "interleave", "micro_batch", "recompute"):
        assert set(getattr(found, name)) == {getattr(given, name)}


def test_given_interleaving_and_sharding_leave_only_plans_that_can_have_them() -> None:
    found = table(fixed=Fixed(interleave=3))
    assert set(found.interleave) == {3}
    assert min(found.pp) > 1
    shared = table(fixed=Fixed(shard=8))
    assert set(shared.shard) == {8}
    assert all((shared.dp * shared.cp) % 8 == 0)
    with pytest.raises(SpecError, match=r"no parallel plan .* and shard=8, interleave=6"):
        table(fixed=Fixed(shard=8, interleave=6))


def test_the_usual_plans_are_some_of_all_when_the_batch_divides() -> None:
    def rows(breadth: Breadth) -> set[tuple[float, ...]]:
        return {tuple(map(float, row)) for row in zip(*table(breadth=breadth), strict=True)}

    assert rows(USUAL) < rows(EVERY)


def test_a_batch_that_does_not_divide_is_a_mean_or_refused() -> None:
    usual = table(n_chips=8, global_batch=12.5, fixed=Fixed(tp=1, pp=1, cp=1), breadth=USUAL)
    assert set(usual.n_micro) == {12.5 / 8}
    with pytest.raises(SpecError, match="no parallel plan for dense on 8 x h100-sxm"):
        table(n_chips=8, global_batch=12.5, fixed=Fixed(tp=1, pp=1, cp=1))


def test_a_micro_batch_larger_than_a_replicas_share_is_refused() -> None:
    with pytest.raises(SpecError, match="micro_batch=8"):
        table(n_chips=8, global_batch=32, fixed=Fixed(tp=1, pp=1, cp=1, micro_batch=8), breadth=USUAL)


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        (Fixed(tp=16), "tp=16: wider than the fast links"),
        (Fixed(tp=3), "tp=3: does not divide n_heads=8"),
        (Fixed(pp=7), "pp=7: more pipeline stages than n_layers=6"),
        (Fixed(pp=2, interleave=4), "interleave=4: more pieces than n_layers=6"),
        (Fixed(ep=4), "ep=4: does not divide the model's 6 experts"),
        (Fixed(pp=5), "tp x pp x cp = 5: does not divide n_chips=16"),
        (Fixed(pp=1, interleave=2), "interleave=2: needs pipeline stages, and pp=1"),
        (Fixed(shard=3), "shard=3: must divide dp x cp, which divides 16 chips$"),
        (Fixed(shard=32), "shard=32: must divide dp x cp, which divides 16 chips$"),
        (Fixed(tp=2, pp=2, shard=8), "shard=8: must divide dp x cp, which divides 16 chips / tp=2 / pp=2"),
        (Fixed(zero=Zero.NOTHING, shard=8), "shard=8: zero=0 shares out nothing"),
    ],
)
def test_degrees_that_cannot_be_are_refused(fixed: Fixed, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        check_fixed(EXPERTS, cluster(16), fixed)
