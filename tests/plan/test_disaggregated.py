from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs import CHIP, RENTED, RUNNING
from tests.served import BIG, CALIBRATION, EIGHT, LONG, ONE, in_two_pools, load_of, served
from twobills.counts.serving_step import kv_cache_bytes
from twobills.errors import SpecError
from twobills.plan.disaggregated import plan_disaggregated
from twobills.plan.pool_ways import writing_load
from twobills.plan.serving_choice import TARGET_UTILIZATION
from twobills.plan.serving_degrees import Degrees
from twobills.plan.steady import steady_state
from twobills.specs import catalog
from twobills.specs.cluster import ClusterSpec
from twobills.specs.load import Load
from twobills.units import MEGA, SECONDS_PER_DAY
from twobills.usage import Phase

some = settings(max_examples=30, deadline=None)
loads = st.builds(
    lambda p, a, c, coming: Load(prompt_tokens=p, answer_tokens=a, cached_frac=c, **coming),
    st.integers(1, 20_000),
    st.integers(1, 2_000),
    st.floats(0, 0.99),
    st.one_of(
        st.just({}),
        st.builds(lambda n: {"concurrency": n}, st.integers(2, 60)),
        st.builds(lambda r: {"requests_per_s": r}, st.floats(0.001, 0.5)),
    ),
)


def with_room(load: Load) -> Load:
    """The load, or as many of its clients as a refusal says that there is room for."""
    try:
        in_two_pools(load)
    except SpecError as error:
        refusal = str(error)
    else:
        return load
    room = re.search(r"room for about (\d+) such clients", refusal)
    assert room is not None, refusal
    assert load.concurrency is not None
    assert 0 < int(room[1]) < load.concurrency
    return replace(load, concurrency=int(room[1]))


@some
@given(loads)
def test_pools_share_the_chips_and_all_tokens_pay_for_them(load: Load) -> None:
    load = with_room(load)
    plan = in_two_pools(load)
    assert plan.n_chips == plan.prefill.n_chips + plan.decode.n_chips <= 8
    assert plan.prefill.busy(plan.per_s) <= 1 + 1e-9
    assert plan.decode.busy(plan.per_s) <= 1 + 1e-9
    figures, shares = plan.figures, plan.shares
    assert shares.input + shares.cached_input + shares.output == pytest.approx(1, abs=1e-12)
    paid = (
        figures.usd_per_mtok_input.value * load.prompt_tokens * (1 - load.cached_frac)
        + figures.usd_per_mtok_cached_input.value * load.prompt_tokens * load.cached_frac
        + figures.usd_per_mtok_output.value * load.answer_tokens
    ) / MEGA
    assert paid == pytest.approx(figures.usd_per_request.value)
    assert plan.bill.usage.total.chip_s == pytest.approx(SECONDS_PER_DAY * plan.n_chips)
    assert figures.ttft_s.value >= plan.read_s + plan.transfer_s
    assert figures.ttft_p50_s.value <= figures.ttft_p99_s.value


def test_writing_is_not_delayed_by_reading() -> None:
    load, model = load_of(concurrency=90, prompt_tokens=8000), replace(BIG, n_layers=24)
    together, apart = served(load, model=model), in_two_pools(load, model=model)
    assert apart.figures.tpot_s.value < together.figures.tpot_s.value


def test_a_cache_crosses_fast_links_within_their_domain_and_the_network_beyond() -> None:
    """What a prompt's cache holds, over the rate that collectives reach, from each chip that holds a part of it."""
    n_bytes = float(kv_cache_bytes(LONG, 1000.0, 2.0))
    for cluster, link in ((EIGHT, CHIP.scaleup_bytes_per_s), (replace(EIGHT, n_chips=16), CHIP.scaleout_bytes_per_s)):
        one = Degrees(tp=1, pp=1, n_instances=cluster.n_chips // 2)
        plan = in_two_pools(load_of(concurrency=64), cluster=cluster, prefill=one, decode=one)
        assert plan.transfer_bytes == pytest.approx(n_bytes)
        assert link is not None
        assert plan.transfer_s >= n_bytes / link
        assert plan.transfer_s <= 2 * n_bytes / link


def test_each_pool_has_the_fewest_chips_that_are_not_too_busy() -> None:
    plan = in_two_pools(load_of(requests_per_s=0.1))
    assert plan.n_chips == 2
    assert plan.utilization <= TARGET_UTILIZATION
    day = plan.bill
    assert day.line(Phase.PREFILL).usage.tokens == pytest.approx(0.1 * 1000 * SECONDS_PER_DAY)
    assert day.line(Phase.DECODE).usage.tokens == pytest.approx(0.1 * 300 * SECONDS_PER_DAY)
    assert day.line(Phase.PREFILL).usage.chip_s == pytest.approx(0.1 * plan.read_s * SECONDS_PER_DAY)


def test_clients_wait_as_often_as_they_are_many() -> None:
    """Little's law: in flight = rate x stay."""
    for n in (4, 64, 2000):
        plan = in_two_pools(load_of(concurrency=n))
        stay_s = plan.figures.e2e_s.value
        assert plan.per_s * stay_s == pytest.approx(n, rel=0.15)


def test_what_cannot_be_is_one_line() -> None:
    with pytest.raises(
        SpecError, match=r"concurrency=1e\+06: saturates two pools of 8 x test-chip, which have room for"
    ):
        in_two_pools(load_of(concurrency=1e6))
    with pytest.raises(SpecError, match="do not hold two instances, one for each pool"):
        in_two_pools(load_of(), cluster=ONE)
    with pytest.raises(SpecError, match=r"saturates two pools of 8 x test-chip, which take about .* a second"):
        in_two_pools(load_of(requests_per_s=1e4))
    with pytest.raises(SpecError, match="do not hold"):
        in_two_pools(load_of(), model=BIG, cluster=ClusterSpec(chip=CHIP, n_chips=2))


def test_deepseeks_pools_reach_their_published_rates() -> None:
    """Per node of 8 H800: 73.7k input tokens/s read (cache hits included) and 14.8k output tokens/s, each within 35 %.

    EP32 and EP144; 608 B input tokens (56.3 % cached) and 168 B output tokens a day at 4,989 tokens of context, so that
    prompts are 4,384 and answers 1,211 tokens long; 88 streams on a chip (1,850 tokens/s at 20 to 22 a user).
    Source: DeepSeek-V3/R1 inference system overview, 2025-03-01.
    """
    load = load_of(prompt_tokens=4384, answer_tokens=1211, cached_frac=0.563, requests_per_s=168e9 / 86400 / 1211)
    plan = plan_disaggregated(
        catalog.model("deepseek-v3"),
        load,
        ClusterSpec(chip=catalog.chip("h800-sxm"), n_chips=4608),
        RENTED,
        RUNNING,
        CALIBRATION,
        weights="fp8",
        prefill=Degrees(tp=1, pp=1, dp=32, ep=32),
        decode=Degrees(tp=1, pp=1, dp=144, ep=144),
    )
    reads = plan.prefill.per_s * 4384 / 32 * 8
    assert reads == pytest.approx(73_700, rel=0.35)
    state = steady_state(plan.model, plan.decode.instance, plan.speed, writing_load(load), most_sequences=88)
    writes = float(state.answers_per_s[0]) * 1211 / 144 * 8
    assert writes == pytest.approx(14_800, rel=0.35)
