"""The steady state: closed and open loops meet the queued limit, Little's law holds, and saturation is called out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.situations import CALIBRATION, CLUSTERS, MODELS, clusters, instance
from twobills.counts.params import count_params
from twobills.counts.serving_step import kv_cache_bytes
from twobills.perf.serving_step import serving_rates
from twobills.plan.steady import (
    RESERVED_BYTES,
    USABLE_FRAC,
    Instance,
    Steady,
    in_flight,
    most_running,
    spare_bytes,
    steady_state,
)
from twobills.specs import catalog
from twobills.specs.dtype import DType
from twobills.specs.engine import Engine
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec

SLOW = settings(deadline=None, max_examples=40)
EIGHT = clusters(8)
RATES = serving_rates(EIGHT["h200-sxm"], Engine.SERVER, DType.BF16, CALIBRATION)
LLAMA = catalog.model("llama-3.1-8b")
H200 = instance(memory_bytes=141e9)

small = st.sampled_from([m for m in MODELS if count_params(m).total < 5e11])
"""That eight chips of 141 GB hold in 16 bits."""
layouts = st.sampled_from(
    [{"tp": 8}, {"tp": 4, "pp": 2}, {"pp": 8}, {"dp": 8, "ep": 8}, {"tp": 2, "dp": 4, "ep": 8}, {"tp": 8, "ep": 8}]
)
lengths = st.floats(1, 20_000)


def settled(model: ModelSpec, i: Instance, load: Load, **limits: float) -> Steady:
    return steady_state(model, i, RATES, load, **limits)


def queued(prompt: float, answer: float) -> Load:
    return Load(prompt_tokens=prompt, answer_tokens=answer)


def one(column: np.ndarray) -> float:
    return float(column[0])


def spread(layout: dict[str, int], memory_bytes: float = 141e9) -> Instance:
    return instance(memory_bytes=memory_bytes, **layout)


@SLOW
@given(small, layouts, lengths, lengths, st.floats(1, 1e5))
def test_a_closed_loop_holds_littles_law(
    model: ModelSpec, layout: dict[str, int], prompt: float, answer: float, clients: float
) -> None:
    """Every client is somewhere, being read or producing tokens; there is no wait where there is no room for all."""
    i = spread(layout)
    if not settled(model, i, queued(prompt, answer)).fits[0]:
        return
    found = settled(model, i, Load(prompt_tokens=prompt, answer_tokens=answer, concurrency=clients))
    assert one(found.n_running) <= one(found.most_running)
    assert 0 < one(found.utilization) <= 1 + 1e-9
    room = one(in_flight(settled(model, i, queued(prompt, answer))))
    assert found.saturated[0] == (clients > room)
    if found.saturated[0]:
        assert np.isnan([one(found.ttft_s), one(found.tpot_s), one(found.queue_s)]).all()
    else:
        somewhere = one(found.answers_per_s) * (one(found.ttft_s) + answer * one(found.tpot_s))
        assert somewhere == pytest.approx(clients, rel=1e-3)


@SLOW
@given(small, layouts, lengths, lengths)
def test_many_clients_are_the_queued_limit(
    model: ModelSpec, layout: dict[str, int], prompt: float, answer: float
) -> None:
    i = spread(layout)
    full = settled(model, i, queued(prompt, answer))
    if not full.fits[0]:
        return
    found = settled(model, i, Load(prompt_tokens=prompt, answer_tokens=answer, concurrency=1e9))
    assert one(found.answers_per_s) == pytest.approx(one(full.answers_per_s), rel=1e-6)
    assert one(found.n_running) == pytest.approx(one(full.most_running))


@SLOW
@given(small, layouts, lengths, lengths, st.floats(0.001, 3))
def test_an_open_load_saturates_exactly_where_its_rate_passes_capacity(
    model: ModelSpec, layout: dict[str, int], prompt: float, answer: float, share: float
) -> None:
    i = spread(layout)
    full = settled(model, i, queued(prompt, answer))
    if not full.fits[0]:
        return
    rate = share * one(full.answers_per_s)
    found = settled(model, i, Load(prompt_tokens=prompt, answer_tokens=answer, requests_per_s=rate))
    assert found.saturated[0] == (rate >= one(full.answers_per_s))
    assert one(found.utilization) == pytest.approx(share)
    assert one(found.n_running) <= one(found.most_running) * (1 + 1e-9)
    if found.saturated[0]:
        assert np.isnan([one(found.ttft_s), one(found.tpot_s), one(found.queue_s)]).all(), "no figure past saturation"
    else:
        assert one(found.answers_per_s) == pytest.approx(rate)
        producing = rate * answer * one(found.tpot_s)
        assert one(found.n_running) == pytest.approx(producing, rel=1e-3, abs=1e-5)


@SLOW
@given(small, layouts, st.floats(100, 20_000), st.floats(10, 2_000))
def test_rare_requests_are_served_as_if_alone(
    model: ModelSpec, layout: dict[str, int], prompt: float, answer: float
) -> None:
    """TPOT of a sequence that nobody disturbs, whatever the layout: a step that runs has at least one sequence."""
    i = spread(layout)
    alone = settled(model, i, queued(prompt, answer), most_sequences=1 / (layout.get("dp", 1)))
    if not alone.fits[0]:
        return
    found = settled(model, i, Load(prompt_tokens=prompt, answer_tokens=answer, requests_per_s=1e-9))
    undisturbed = one(alone.step_s) * (1 - one(alone.prompt_step_share))
    assert one(found.tpot_s) == pytest.approx(undisturbed, rel=1e-3)


@SLOW
@given(small, layouts, lengths, lengths, st.floats(0.001, 0.9), st.floats(1, 1.5))
def test_latency_grows_with_the_load_and_its_lengths(
    model: ModelSpec, layout: dict[str, int], prompt: float, answer: float, share: float, factor: float
) -> None:
    i = spread(layout)
    full = settled(model, i, queued(prompt, answer))
    if not full.fits[0]:
        return
    rate = share * one(full.answers_per_s)
    base = Load(prompt_tokens=prompt, answer_tokens=answer, requests_per_s=rate)
    less = settled(model, i, base)
    for more in (replace(base, requests_per_s=rate * factor), replace(base, prompt_tokens=prompt * factor)):
        found = settled(model, i, more)
        if not found.saturated[0]:
            assert one(found.tpot_s) >= one(less.tpot_s) * (1 - 1e-6)
            assert one(found.ttft_s) >= one(less.ttft_s) * (1 - 1e-6)


@SLOW
@given(st.floats(1, 1e4), st.floats(1, 1.5), lengths, st.floats(10, 5000))
def test_more_clients_are_served_more_and_wait_longer(
    clients: float, factor: float, prompt: float, answer: float
) -> None:
    few, many = (
        settled(LLAMA, H200, Load(prompt_tokens=prompt, answer_tokens=answer, concurrency=n))
        for n in (clients, clients * factor)
    )
    assert one(many.answers_per_s) >= one(few.answers_per_s) * (1 - 1e-6)
    assert many.saturated[0] >= few.saturated[0]
    if not many.saturated[0]:
        assert one(many.tpot_s) >= one(few.tpot_s) * (1 - 1e-6)
        assert one(many.ttft_s) >= one(few.ttft_s) * (1 - 1e-6)


@SLOW
@given(small, layouts, lengths, lengths)
def test_what_runs_fits_in_memory(model: ModelSpec, layout: dict[str, int], prompt: float, answer: float) -> None:
    """Weights, what the engine takes and every sequence's whole cache, on chips that hold a copy each."""
    i = spread(layout)
    n = one(most_running(model, i, prompt=i.tp * 0 + prompt, answer=i.tp * 0 + answer, most_sequences=np.inf))
    spare = one(spare_bytes(model, i))
    chips = one(i.n_chips)
    if spare <= 0:
        assert n == 0
        return
    cache = n * float(kv_cache_bytes(model, prompt + answer, 2))
    assert cache <= spare * chips * (1 + 1e-9)


def test_cache_and_weights_of_llama_on_one_h200_by_hand() -> None:
    """8,030,261,248 parameters in 16 bits beside what the engine takes; 131,072 bytes a token."""
    spare = 141e9 * USABLE_FRAC - RESERVED_BYTES - 2 * 8_030_261_248
    assert one(spare_bytes(LLAMA, H200)) == pytest.approx(spare)
    full = settled(LLAMA, H200, queued(4000, 500), most_sequences=10_000)
    assert one(full.most_running) == int(spare / (4500 * 131_072))


def test_ranks_beyond_the_key_value_heads_repeat_the_cache() -> None:
    """Qwen2 7B has 4 key-value heads: on 8 ranks each is held twice; latent attention is held by all."""
    zero = H200.tp * 0
    for model, copies in (("qwen2-7b", 2), ("llama-3.1-8b", 1), ("deepseek-v2-lite", 8)):
        spec, i = catalog.model(model), spread({"tp": 8})
        n = one(most_running(spec, i, prompt=zero + 5000, answer=zero + 1000, most_sequences=1e9))
        cache = n * float(kv_cache_bytes(spec, 6000, 2))
        assert cache * copies == pytest.approx(8 * one(spare_bytes(spec, i)), rel=0.01)


def test_what_does_not_fit_is_said_not_served() -> None:
    found = settled(catalog.model("llama-3.1-70b"), instance(memory_bytes=80e9), queued(1000, 100))
    assert not found.fits[0]
    assert one(found.spare_bytes) < 0
    assert one(found.most_running) == 0


@pytest.mark.parametrize("n_instances", [1.0, 3.0])
def test_instances_share_the_load(n_instances: float) -> None:
    rate = 4.0
    shared = steady_state(
        LLAMA,
        H200,
        RATES,
        Load(prompt_tokens=500, answer_tokens=200, requests_per_s=rate * n_instances),
        n_instances=n_instances,
    )
    own = settled(LLAMA, H200, Load(prompt_tokens=500, answer_tokens=200, requests_per_s=rate))
    assert one(shared.tpot_s) == pytest.approx(one(own.tpot_s))
    assert one(shared.ttft_s) == pytest.approx(one(own.ttft_s))


def test_the_queue_is_md1() -> None:
    """At half of its capacity a prompt waits for half a service, beside the step under way (M/D/1)."""
    full = settled(LLAMA, H200, queued(1000, 100))
    rate = one(full.answers_per_s) / 2
    found = settled(LLAMA, H200, Load(prompt_tokens=1000, answer_tokens=100, requests_per_s=rate))
    service = one(found.ttft_s) - one(found.queue_s)
    assert one(found.queue_s) == pytest.approx(one(found.tpot_s) / 2 + 0.5 * service)


@SLOW
@given(st.floats(0, 0.99))
def test_a_cached_prefix_is_never_slower(cached: float) -> None:
    base = queued(4000, 300)
    without, with_hits = (settled(LLAMA, H200, load) for load in (base, replace(base, cached_frac=cached)))
    assert one(with_hits.answers_per_s) >= one(without.answers_per_s) * (1 - 1e-12)
    assert one(with_hits.ttft_s) <= one(without.ttft_s) * (1 + 1e-12)


def test_rows_do_not_see_each_other() -> None:
    layouts_of = [{"tp": 8}, {"tp": 1}, {"tp": 2, "pp": 4}]
    rows = [spread(layout) for layout in layouts_of]
    table = Instance(*(np.concatenate(column) for column in zip(*rows, strict=True)))
    for load in (
        queued(500, 100),
        Load(prompt_tokens=500, answer_tokens=100, concurrency=30),
        Load(prompt_tokens=500, answer_tokens=100, requests_per_s=5),
    ):
        together = settled(LLAMA, table, load)
        for k, row in enumerate(rows):
            alone = settled(LLAMA, row, load)
            for name in ("tpot_s", "ttft_s", "answers_per_s", "n_running"):
                assert getattr(together, name)[k] == pytest.approx(one(getattr(alone, name)), rel=1e-9), name


@pytest.mark.parametrize(("prompt", "answer", "printed"), [(128, 128, 27_900), (1000, 1000, 17_700)])
def test_llama_on_one_h200_by_tensorrt(prompt: float, answer: float, printed: float) -> None:
    """TensorRT-LLM's table of Llama 3.1 8B fp8 on one H200, all requests queued: within 25 %."""
    rates = serving_rates(CLUSTERS["h200-sxm"], Engine.TENSORRT, DType.FP8, CALIBRATION)
    chip = instance(memory_bytes=CLUSTERS["h200-sxm"].memory_bytes, weight_bytes=1, kv_bytes=1)
    full = steady_state(LLAMA, chip, rates, queued(prompt, answer))
    assert one(full.answers_per_s) * answer == pytest.approx(printed, rel=0.25)
