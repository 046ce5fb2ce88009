"""The table of ways to serve: nothing in it that cannot be, nothing left out that could."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twobills.plan.serving_space import Layouts, ServingOffer, batch_sizes, batches, distinct, serving_space
from twobills.specs import catalog
from twobills.specs.cluster import ClusterSpec
from twobills.specs.engine import Engine
from twobills.specs.serving_calibration import published_serving_calibration
from twobills.specs.weight_format import FORMATS

CALIBRATION = published_serving_calibration()


def offer(name: str, n_chips: int, *weights: str, usd: float = 1e-3) -> ServingOffer:
    cluster = ClusterSpec(chip=catalog.chip(name), n_chips=n_chips)
    return ServingOffer(cluster, usd, tuple(FORMATS[each] for each in weights or ("bf16",)))


def layouts(model: str, *offers: ServingOffer, kvs: tuple[str, ...] = ("bf16",)) -> Layouts:
    return serving_space(
        catalog.model(model),
        offers,
        kvs=[FORMATS[each] for each in kvs],
        engine=Engine.SERVER,
        calibration=CALIBRATION,
    ).layouts


def test_a_dense_model_on_one_server() -> None:
    found = layouts("llama-3.1-8b", offer("h200", 8))
    assert set(zip(found.tp, found.pp, strict=True)) == {
        (tp, pp) for tp in (1, 2, 4, 8) for pp in (1, 2, 4, 8) if tp * pp <= 8
    }
    assert (found.dp == 1).all(), "copies of a dense model are instances"


def test_every_layout_can_be() -> None:
    model = catalog.model("deepseek-v3")
    found = layouts("deepseek-v3", offer("h200", 64))
    assert model.moe is not None
    assert (found.n_chips <= 64).all()
    assert (model.n_heads % found.tp == 0).all()
    assert (found.tp <= 8).all(), "within the fast links"
    wide = found.select(found.dp > 1)
    assert len(wide.tp)
    assert (model.moe.n_experts % wide.ep == 0).all()
    assert (found.pp <= model.n_layers).all()


def test_each_offer_has_its_own_formats() -> None:
    found = layouts("llama-3.1-8b", offer("a100", 8, "bf16", "w8a8"), offer("b200", 4, "nvfp4"), kvs=("bf16", "fp8"))
    assert set(found.weights[found.offer == 0]) == {0, 1}
    assert set(found.weights[found.offer == 1]) == {2}
    assert set(found.kv) == {0, 1}
    assert (found.n_chips[found.offer == 1] <= 4).all()


def test_chips_that_do_not_fill_a_domain_are_not_wasted() -> None:
    assert set(layouts("llama-3.1-70b", offer("h200", 6)).tp) >= {1, 2, 4}
    assert {8, 10} <= set(layouts("llama-3.1-70b", offer("h200", 12)).n_chips)


@given(st.lists(st.floats(0, 5000), min_size=1, max_size=6), st.integers(1, 8))
def test_batches_go_up_to_what_memory_holds(most: list[float], dp: int) -> None:
    one = layouts("llama-3.1-8b", offer("h200", 1))
    many = one.select(np.zeros(len(most), dtype=np.intp))._replace(dp=np.full(len(most), float(dp)))
    layout, batch = batches(many, np.array(most))
    for i, limit in enumerate(most):
        own = batch[layout == i]
        per_rank = min(limit // dp, limit)
        assert len(own) == len(set(own))
        assert (own % dp == 0).all()
        assert not len(own) if per_rank < 1 else own.max() == per_rank * dp
        assert set(own / dp) - {per_rank} == {n for n in batch_sizes(2048) if n < per_rank}


@given(st.lists(st.integers(-5, 5)))
def test_distinct_values_are_sorted_and_each_there_once(values: list[int]) -> None:
    assert list(distinct(np.array(values, dtype=np.int64))) == sorted(set(values))
