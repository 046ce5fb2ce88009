"""One pool and two: rows are the core's own steady states, pools match, and thinning loses next to nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan.test_serving_space import CALIBRATION, offer
from twobills.errors import SpecError
from twobills.plan import serving_two_pools
from twobills.plan.reading import transfer_s
from twobills.plan.serving_choice import TARGET_UTILIZATION
from twobills.plan.serving_one_pool import NO_POOL, Running, aggregated, joined, running
from twobills.plan.serving_space import Space, serving_space
from twobills.plan.serving_two_pools import disaggregated
from twobills.plan.steady import steady_state
from twobills.specs import catalog
from twobills.specs.engine import Engine
from twobills.specs.load import Load
from twobills.specs.weight_format import FORMATS

QUEUED = Load(prompt_tokens=4000, answer_tokens=500)


def space(model: str = "llama-3.1-8b", n_chips: int = 4, chip: str = "h200") -> Space:
    return serving_space(
        catalog.model(model),
        [offer(chip, n_chips)],
        kvs=[FORMATS["bf16"]],
        engine=Engine.SERVER,
        calibration=CALIBRATION,
    )


SPACE = space()
ROWS = running(SPACE, QUEUED)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_row_is_where_the_same_load_settles(share: float) -> None:
    """From the other end: requests at the row's rate make as many run as the row has."""
    row = int(share * len(ROWS.batch))
    layout = SPACE.layouts.select(ROWS.layout[[row]])
    rate = float(ROWS.answers_per_s[row])
    load = Load(prompt_tokens=4000, answer_tokens=500, requests_per_s=rate)
    found = steady_state(SPACE.model, SPACE.instance(layout), SPACE.rates_of(layout), load)
    assert found.n_running[0] == pytest.approx(ROWS.batch[row], rel=1e-3)
    assert found.tpot_s[0] == pytest.approx(ROWS.mixed_s[row], rel=1e-3)
    one = Running._make(column[[row]] for column in ROWS)
    assert aggregated(SPACE, load, one).ttft_s[0] == pytest.approx(found.ttft_s[0], rel=1e-3)


def test_a_rate_gets_as_many_instances_as_it_takes() -> None:
    load = Load(prompt_tokens=4000, answer_tokens=500, requests_per_s=10)
    found = aggregated(SPACE, load, ROWS)
    assert (found.n_instances * ROWS.answers_per_s >= 10).all()
    busy = 10 / (found.n_instances * ROWS.capacity_per_s)
    offered = np.floor(4 / SPACE.layouts.n_chips[ROWS.layout])
    assert ((busy <= TARGET_UTILIZATION * (1 + 1e-9)) | (found.n_instances <= offered)).all()
    with_one_less = (found.n_instances - 1) * np.minimum(ROWS.answers_per_s, TARGET_UTILIZATION * ROWS.capacity_per_s)
    assert (with_one_less < 10).all()
    assert (found.answers_per_s == 10).all()


def test_pools_match_and_stay_within_the_chips() -> None:
    found = joined(disaggregated(SPACE, QUEUED, ROWS, tpot_s=0.02))
    chips = SPACE.layouts.n_chips
    assert (found.n_chips == found.n_instances * chips[found.layout] + found.n_reading * chips[found.reading]).all()
    assert (found.n_chips <= 4).all()
    assert (found.reading != NO_POOL).all()
    writing = found.n_instances * found.batch / found.tpot_s / 500
    assert (found.answers_per_s <= writing * (1 + 1e-12)).all(), "no more than the writing pool writes"


def test_thinning_loses_less_than_a_hundredth(monkeypatch: pytest.MonkeyPatch) -> None:
    def cheapest(tpot_s: float) -> float:
        found = joined(disaggregated(SPACE, QUEUED, ROWS, tpot_s=tpot_s))
        quick = (found.tpot_s <= tpot_s) & (found.ttft_s <= 1.0)
        return float((found.n_chips / found.answers_per_s)[quick].min())

    thinned = {tpot_s: cheapest(tpot_s) for tpot_s in (0.012, 0.02, 0.05)}
    monkeypatch.setattr(serving_two_pools, "MOST_RUNNING_KEPT", 10**6)
    for tpot_s, value in thinned.items():
        assert cheapest(tpot_s) <= value <= cheapest(tpot_s) * 1.01


def test_a_cache_crosses_at_its_size_over_the_links() -> None:
    """Llama-3.1-8B: 2 x 8 heads x 128 x 32 layers x 2 bytes = 131,072 bytes a token."""
    rates = SPACE.rates
    n_bytes = 4000 * 131072
    layout = SPACE.layouts.select(np.array([0]))

    def crossing_s(n_chips: float) -> np.ndarray:
        kv_bytes, lanes = SPACE.instance(layout).kv_bytes, np.array([2.0])
        rates = SPACE.rates_of(layout)
        return transfer_s(SPACE.model, QUEUED, kv_bytes, rates, lanes=lanes, n_chips=np.array([n_chips]))

    near, far = crossing_s(4.0), crossing_s(400.0)
    assert near[0] == pytest.approx(n_bytes / 2 / np.asarray(rates.fast_bytes_per_s)[0])
    assert far[0] == pytest.approx(n_bytes / 2 / np.asarray(rates.slow_bytes_per_s)[0])
    assert far[0] > near[0]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.0, 0.95))
def test_cached_prompts_are_never_dearer(cached: float) -> None:
    load = Load(prompt_tokens=4000, answer_tokens=500, cached_frac=cached)
    less, more = running(SPACE, load), ROWS
    assert (less.answers_per_s >= more.answers_per_s * (1 - 1e-9)).all()
    assert (less.read_s <= more.read_s * (1 + 1e-9)).all()


def test_two_pools_need_two_chips() -> None:
    alone = space(n_chips=1)
    assert disaggregated(alone, QUEUED, running(alone, QUEUED), tpot_s=None) == []


@pytest.mark.parametrize(
    ("model", "load", "words"),
    [
        ("llama-3.1-405b", QUEUED, r"lacks .* a chip for the weights"),
        ("llama-3.1-70b", Load(prompt_tokens=120_000, answer_tokens=500), "holds the weights but not one"),
    ],
)
def test_what_does_not_fit_says_by_how_much(model: str, load: Load, words: str) -> None:
    small = space(model, n_chips=1 if model.endswith("405b") else 2, chip="h100-sxm")
    with pytest.raises(SpecError, match=words):
        running(small, load)
