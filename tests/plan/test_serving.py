from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs import CHIP, POWERED, RENTED, RUNNING
from tests.served import BIG, EIGHT, LONG, ONE, load_of, served
from tests.sharded import EXPERTS, LATENT, WINDOWED
from twobills.counts.params import count_params
from twobills.counts.serving_step import kv_cache_bytes
from twobills.errors import SpecError
from twobills.money.bill import busy_usd, price
from twobills.money.margin import margin_frac, markup_frac
from twobills.money.rates import at_user_price
from twobills.plan.serving import ServingPlan
from twobills.plan.serving_choice import TARGET_UTILIZATION
from twobills.plan.serving_day import IDLE_DRAW
from twobills.plan.serving_figures import ServingFigures
from twobills.plan.steady import in_flight
from twobills.plan.training import server_watts
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.load import Load
from twobills.units import MEGA, SECONDS_PER_DAY
from twobills.usage import Job, Origin, Phase, PhaseUsage, Usage

some = settings(max_examples=60, deadline=None)
prompts, answers = st.integers(1, 20_000), st.integers(1, 2_000)
models = st.sampled_from([LONG, replace(WINDOWED, max_seq_len=131072), replace(LATENT, max_seq_len=131072), EXPERTS])
comings = st.one_of(
    st.just({}),
    st.builds(lambda n: {"concurrency": n}, st.integers(1, 40)),
    st.builds(lambda r: {"requests_per_s": r}, st.floats(0.001, 1.0)),
)
loads = st.builds(
    lambda p, a, c, coming: Load(prompt_tokens=p, answer_tokens=a, cached_frac=c, **coming),
    prompts,
    answers,
    st.floats(0, 0.99),
    comings,
)


def one(load: Load, **given: Any) -> ServingPlan:
    """On one chip, so that nothing is there to choose."""
    return served(load, cluster=ONE, **given)


@some
@given(loads)
def test_the_three_kinds_of_token_pay_for_everything(load: Load) -> None:
    plan = served(load)
    shares, figures = plan.shares, plan.figures
    assert shares.input + shares.cached_input + shares.output == pytest.approx(1, abs=1e-12)
    assert min(shares) >= -1e-12
    for view in ("", "_reserved"):
        kinds = {kind: getattr(figures, f"usd_per_mtok_{kind}{view}").value for kind in ("input", "output")}
        cached = getattr(figures, f"usd_per_mtok_cached_input{view}").value
        paid = (
            kinds["input"] * load.prompt_tokens * (1 - load.cached_frac)
            + cached * load.prompt_tokens * load.cached_frac
            + kinds["output"] * load.answer_tokens
        ) / MEGA
        assert paid == pytest.approx(getattr(figures, f"usd_per_request{view}").value)
        assert cached <= kinds["input"] * (1 + 1e-9)


@some
@given(loads)
def test_figures_lie_in_their_intervals_and_what_is_reserved_costs_no_less(load: Load) -> None:
    figures = served(load, rates=POWERED).figures
    for name, figure in figures._asdict().items():
        assert figure.p5 <= figure.value * (1 + 1e-12), name
        assert figure.value <= figure.p95 * (1 + 1e-12), name
    for name in ("usd_per_request", "usd_per_mtok_input", "usd_per_mtok_cached_input", "usd_per_mtok_output"):
        used, reserved = getattr(figures, name), getattr(figures, f"{name}_reserved")
        assert used.value <= reserved.value * (1 + 1e-9)
        assert used.p95 <= reserved.p95 * (1 + 1e-9)


@some
@given(
    prompts,
    answers,
    st.sampled_from(["bf16", "fp8"]),
    st.sampled_from([{"concurrency": 1}, {"requests_per_s": 1e-3}]),
)
def test_one_stream_never_beats_bytes_over_bandwidth(
    prompt: int, answer: int, weights: str, coming: dict[str, Any]
) -> None:
    """Its weights, embeddings aside, and the keys of its prompt."""
    model = replace(BIG, n_layers=24)
    plan = one(Load(prompt_tokens=prompt, answer_tokens=answer, **coming), model=model, weights=weights)
    params = count_params(model)
    n_bytes = (params.total - params.embedding) * plan.weight_format.bytes_per_weight
    n_bytes += float(kv_cache_bytes(model, float(prompt), 2.0))
    assert plan.figures.tpot_s.value >= n_bytes / (CHIP.memory_bytes_per_s or 0)


@some
@given(prompts, answers, st.floats(0, 1), models)
def test_throughput_never_passes_the_peak_nor_the_bandwidth(prompt: int, answer: int, share: float, model: Any) -> None:
    if prompt + answer > model.max_seq_len:
        return
    load = Load(prompt_tokens=prompt, answer_tokens=answer)
    full = served(load, model=model)
    clients = max(1.0, share * full.n_instances * float(in_flight(full.steady)[0]))
    plan = served(replace(load, concurrency=clients), model=model)
    per_s = plan.figures.output_tokens_per_s.value / answer
    params = count_params(model)
    flops = 2 * (params.matmul_active - params.head) * (prompt + answer)
    assert per_s * flops <= plan.n_chips * CHIP.peak_flops_per_s[DType.BF16]
    cache = float(kv_cache_bytes(model, float(prompt), 2.0)) * answer
    assert per_s * cache <= plan.n_chips * (CHIP.memory_bytes_per_s or 0)


@some
@given(prompts, answers, st.floats(0.01, 0.9), st.floats(1.0, 1.5), st.floats(0, 0.9))
def test_more_requests_make_each_slower(prompt: int, answer: int, busy: float, more: float, cached: float) -> None:
    def at(rate: float) -> ServingFigures:
        return one(replace(load, requests_per_s=rate), n_instances=1).figures

    load = Load(prompt_tokens=prompt, answer_tokens=answer, cached_frac=cached)
    capacity = one(load).served.capacity_per_s
    before, after = at(capacity * busy), at(capacity * min(busy * more, 0.95))
    assert before.tpot_s.value <= after.tpot_s.value * (1 + 1e-6)
    assert before.ttft_s.value <= after.ttft_s.value * (1 + 1e-6)
    assert before.ttft_p99_s.value <= after.ttft_p99_s.value * (1 + 1e-6)
    assert before.ttft_p50_s.value <= before.ttft_p99_s.value


@some
@given(st.floats(0, 1), st.floats(0, 1), prompts, answers)
def test_more_clients_make_each_token_slower(few: float, many: float, prompt: int, answer: int) -> None:
    load = Load(prompt_tokens=prompt, answer_tokens=answer)
    room = float(in_flight(one(load).steady)[0])
    before, after = (one(replace(load, concurrency=max(1.0, share * room))).figures for share in sorted((few, many)))
    assert before.tpot_s.value <= after.tpot_s.value * (1 + 1e-3)
    assert before.ttft_s.value <= after.ttft_s.value * (1 + 1e-3)
    assert before.output_tokens_per_s.value <= after.output_tokens_per_s.value * (1 + 1e-3)


@some
@given(st.floats(0.5, 2), prompts, answers)
def test_clients_that_there_is_no_room_for_are_refused(share: float, prompt: int, answer: int) -> None:
    load = Load(prompt_tokens=prompt, answer_tokens=answer)
    room = float(in_flight(one(load).steady)[0])
    clients = max(1.0, share * room)
    if clients <= room:
        assert math.isfinite(one(replace(load, concurrency=clients)).figures.ttft_s.value)
        return
    with pytest.raises(SpecError, match=r"saturates one test-chip, which have room for") as error:
        one(replace(load, concurrency=clients))
    assert f"{math.floor(room):,} such" in str(error.value)


@some
@given(prompts, st.floats(1.0, 4.0), answers, st.floats(0.001, 0.5))
def test_longer_prompts_and_answers_take_longer(prompt: int, factor: float, answer: int, busy: float) -> None:
    longest = Load(prompt_tokens=prompt * factor, answer_tokens=answer)
    rate = busy * one(longest).served.capacity_per_s
    before, after = (
        one(replace(longest, prompt_tokens=p, requests_per_s=rate), n_instances=1).figures
        for p in (prompt, prompt * factor)
    )
    assert before.tpot_s.value <= after.tpot_s.value * (1 + 1e-6)
    assert before.ttft_s.value <= after.ttft_s.value * (1 + 1e-6)
    short = one(replace(longest, requests_per_s=rate / 4), n_instances=1).figures
    long = one(replace(longest, answer_tokens=2 * answer, requests_per_s=rate / 4), n_instances=1).figures
    assert short.e2e_s.value <= long.e2e_s.value * (1 + 1e-6)


@some
@given(st.integers(1, 40), st.integers(0, 40), prompts, answers, st.floats(0, 1))
def test_larger_models_are_slower_and_dearer(layers: int, more: int, prompt: int, answer: int, share: float) -> None:
    """At any number of clients that the larger one has room for."""
    load = Load(prompt_tokens=prompt, answer_tokens=answer)
    room = float(in_flight(one(load, model=replace(LONG, n_layers=layers + more)).steady)[0])
    load = replace(load, concurrency=max(1.0, share * room))
    before, after = (one(load, model=replace(LONG, n_layers=k)).figures for k in (layers, layers + more))
    assert before.tpot_s.value <= after.tpot_s.value * (1 + 1e-3)
    assert before.ttft_s.value <= after.ttft_s.value * (1 + 1e-3)
    assert before.usd_per_request.value <= after.usd_per_request.value * (1 + 1e-3)


def test_cached_prompts_cost_less_and_answer_sooner() -> None:
    new, cached = (one(load_of(cached_frac=c, concurrency=32)).figures for c in (0.0, 0.9))
    assert cached.usd_per_request.value < new.usd_per_request.value
    assert cached.ttft_s.value < new.ttft_s.value
    assert new.usd_per_mtok_cached_input.value < new.usd_per_mtok_input.value


def test_the_bill_is_a_day_of_the_reserved_chips() -> None:
    plan = served(load_of(requests_per_s=0.01), cluster=ONE)
    total = plan.bill.usage.total
    assert total.chip_s == pytest.approx(SECONDS_PER_DAY * plan.n_chips)
    assert plan.figures.usd_per_day.value == pytest.approx(SECONDS_PER_DAY * RENTED.usd_per_chip_s)
    assert plan.bill.line(Phase.DECODE).usage.tokens == pytest.approx(0.01 * 300 * SECONDS_PER_DAY)
    assert plan.bill.line(Phase.PREFILL).usage.tokens == pytest.approx(0.01 * 1000 * SECONDS_PER_DAY)
    # Idle as often as no request of an M/G/infinity queue is there.
    stay_s = plan.figures.e2e_s.value
    assert plan.bill.line(Phase.IDLE).usage.chip_s / total.chip_s == pytest.approx(2.718281828 ** (-0.01 * stay_s))


def test_joules_are_the_chips_at_their_draw_and_cooling_counts_once() -> None:
    plan = served(load_of(requests_per_s=0.01), cluster=ONE, rates=POWERED)
    watts, busy = server_watts(ONE, RUNNING) or 0.0, plan.served.busy_frac
    mean = watts * (busy + (1 - busy) * IDLE_DRAW)
    assert plan.bill.usage.total.energy.total_j == pytest.approx(mean * SECONDS_PER_DAY)
    assert plan.figures.watts is not None
    assert plan.figures.watts.value == pytest.approx(mean * RUNNING.pue)
    assert plan.figures.j_per_token is not None
    assert plan.figures.j_per_token.value == pytest.approx(mean * RUNNING.pue / 3)
    assert busy_usd(plan.bill) < plan.bill.total_usd


def test_no_power_is_no_watts() -> None:
    dark = ClusterSpec(chip=replace(CHIP, watts=None), n_chips=1)
    assert served(load_of(concurrency=4), cluster=dark).figures.watts is None


def test_the_fewest_chips_are_paid_for_that_are_not_too_busy() -> None:
    capacity = one(load_of()).served.capacity_per_s
    for factor, chips in ((0.1, 1), (2.0, 3)):
        plan = served(load_of(requests_per_s=factor * capacity), tp=1, pp=1)
        assert plan.n_chips == chips
        assert float(plan.steady.utilization[0]) <= TARGET_UTILIZATION
    day = served(load_of(requests_per_s=2.0 * capacity), tp=1, pp=1).figures.usd_per_day
    per_chip = SECONDS_PER_DAY * RENTED.usd_per_chip_s
    assert all(round(usd / per_chip, 6).is_integer() for usd in day)  # whole machines, also at the ends
    given = served(load_of(requests_per_s=0.1 * capacity), tp=1, pp=1, n_instances=8).figures.usd_per_day
    assert given.p5 == given.value == given.p95 == pytest.approx(8 * per_chip)


def test_clients_get_all_chips_but_no_more_instances_than_clients() -> None:
    assert served(load_of(concurrency=64)).n_chips == 8
    assert served(load_of(concurrency=1)).n_instances == 1
    assert served(load_of(concurrency=3), tp=1, pp=1).n_instances == 3


def test_saturation_is_said_and_no_figure_given() -> None:
    capacity = one(load_of()).served.capacity_per_s
    with pytest.raises(SpecError, match=r"^requests_per_s=.*: saturates 8 x test-chip, which take at most .*about"):
        served(load_of(requests_per_s=20 * capacity))
    with pytest.raises(SpecError, match="saturates"):
        served(load_of(requests_per_s=1.01 * capacity), cluster=ONE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": BIG, "cluster": ONE}, r"does not fit one test-chip: .* too much .*2 of these chips or fp8"),
        ({"model": BIG, "tp": 1, "pp": 1, "n_instances": 8}, "degrees of parallelism that are left to choose"),
        ({"tp": 16}, "tp=16: the links of test-chip join 8; tp=8 with pp=2"),
        ({"tp": 3}, "tp=3: must divide n_heads=16"),
        ({"pp": 17}, "pp=17: long has 16 layers"),
        ({"tp": 8, "pp": 2}, "tp=8, pp=2: takes more than 8 x test-chip"),
        ({"dp": 2}, "has no experts"),
        ({"n_instances": 0}, "n_instances=0: must be at least 1"),
        ({"model": EXPERTS, "ep": 1000}, "ep=1000"),
        ({"weights": "w8a8"}, "has no int8 products; it has bf16, fp8"),
        ({"weights": "fp7"}, "unknown; one of"),
        ({"load": load_of(prompt_tokens=200_000)}, "more than the 131,072 positions of long"),
    ],
)
def test_what_cannot_be_is_one_line(change: dict[str, Any], words: str) -> None:
    load = change.pop("load", None)
    with pytest.raises(SpecError, match=words) as caught:
        served(load, **change)
    assert "\n" not in str(caught.value)


def test_no_room_for_one_request_says_how_much_it_takes() -> None:
    long = replace(BIG, max_seq_len=10**8)
    with pytest.raises(SpecError, match=r"leaves .* for the cache, and one request of 20,000,300 tokens takes"):
        served(load_of(prompt_tokens=20_000_000), model=long)


def test_experts_are_spread_over_ranks_that_attend_to_different_sequences() -> None:
    plan = served(load_of(concurrency=512), model=replace(EXPERTS, max_seq_len=4096), tp=1, pp=1, dp=8)
    assert (plan.dp, plan.ep, plan.cluster.n_chips) == (8, 8, 8)


def test_chips_without_other_memory_use_all_of_their_sram() -> None:
    """230 MB a chip would all go to a server engine's reserve."""
    sram = replace(CHIP, name="sram", memory_kind="SRAM", memory_bytes=0.23e9, scaleup_chips=64)
    plan = served(load_of(concurrency=2), cluster=ClusterSpec(chip=sram, n_chips=64))
    assert plan.n_chips * 0.23e9 > 2 * count_params(LONG).total
    assert any("hold weights and cache" in words for words in plan.assumed)


def test_families_that_were_not_fitted_have_wider_intervals() -> None:
    unseen = ClusterSpec(chip=replace(CHIP, family="nobody's"), n_chips=8)
    before, after = (served(load_of(concurrency=8), cluster=c).figures.tpot_s.spread for c in (EIGHT, unseen))
    assert after.high > before.high


def test_a_day_of_deepseek_is_arithmetic() -> None:
    """226.75 nodes of 8 chips at $2 an hour cost $87,072; with $562,027 of revenue its "cost profit margin" of 545 %.

    Source: DeepSeek-V3/R1 inference system overview, 2025-03-01, which cuts 545.5 % off. As a margin it is 84.5 %.
    """
    chip_s = 226.75 * 8 * SECONDS_PER_DAY
    usage = Usage(job=Job.INFERENCE, origin=Origin.PREDICTED, phases={Phase.DECODE: PhaseUsage(chip_s=chip_s)})
    cost = price(usage, at_user_price(2.0, as_of="2025-02-28")).total_usd
    assert cost == pytest.approx(87_072)
    assert 100 * markup_frac(562_027, cost) == pytest.approx(545.5, abs=0.2)
    assert margin_frac(562_027, cost) == pytest.approx(0.845, abs=0.001)
    markup = markup_frac(562_027, cost)
    assert margin_frac(562_027, cost) == pytest.approx(markup / (1 + markup))


def test_a_margin_needs_a_sale_and_a_markup_a_cost() -> None:
    with pytest.raises(SpecError, match="revenue_usd=0"):
        margin_frac(0, 1)
    with pytest.raises(SpecError, match="cost_usd=0"):
        markup_frac(1, 0)
