"""The scheduler by itself: budget, order, blocks, chunks, preemption, aborts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twobills.errors import SpecError
from twobills.serving.blocks import BlockPool
from twobills.serving.request import FinishReason, Request, SamplingParams, Status
from twobills.serving.scheduler import Batch, Scheduler
from twobills.specs.serving import ServingSpec
from twobills.usage import Phase


def make_request(name: str, n_prompt: int, max_tokens: int, **params: object) -> Request:
    return Request(
        id=name,
        prompt_token_ids=tuple(range(1, n_prompt + 1)),
        params=SamplingParams(max_tokens=max_tokens, **params),  # type: ignore[arg-type]
    )


def spec(**changes: int) -> ServingSpec:
    small = ServingSpec(max_batch_size=4, batch_size_tokens=16, kv_block_tokens=4, n_kv_blocks=16, max_context_len=48)
    return replace(small, **changes)  # type: ignore[arg-type]


def step(scheduler: Scheduler, token: int = 7, now_s: float = 0.0) -> tuple[Batch, list[Request]]:
    batch = scheduler.schedule(now_s)
    return batch, scheduler.record(batch, {chunk.request.id: token for chunk in batch.chunks}, now_s)


def test_a_prompt_then_one_token_a_step() -> None:
    scheduler = Scheduler(spec())
    request = make_request("a", 5, 3)
    scheduler.add(request)
    batch, _ = step(scheduler, now_s=1.0)
    assert [(c.phase, c.start, c.n_tokens, c.wants_logits) for c in batch.chunks] == [(Phase.PREFILL, 0, 5, True)]
    batch, _ = step(scheduler, now_s=2.0)
    assert [(c.phase, c.start, c.n_tokens) for c in batch.chunks] == [(Phase.DECODE, 5, 1)]
    _, finished = step(scheduler, now_s=3.0)
    assert finished == [request]
    assert request.finish_reason is FinishReason.LENGTH
    assert (request.scheduled_s, request.first_token_s, request.finished_s) == (1.0, 1.0, 3.0)
    assert not scheduler.schedule(4.0)
    assert scheduler.pool.n_free == scheduler.pool.n_blocks


def test_long_prompts_come_in_chunks_behind_the_decodes() -> None:
    scheduler = Scheduler(spec(batch_size_tokens=8))
    scheduler.add(make_request("short", 4, 9))
    scheduler.add(make_request("long", 20, 2))
    seen = []
    for _ in range(4):
        batch, _ = step(scheduler)
        seen.append([(c.request.id, c.start, c.n_tokens, c.wants_logits) for c in batch.chunks])
    assert seen == [
        [("short", 0, 4, True), ("long", 0, 4, False)],
        [("short", 4, 1, True), ("long", 4, 7, False)],
        [("short", 5, 1, True), ("long", 11, 7, False)],
        [("short", 6, 1, True), ("long", 18, 2, True)],
    ]


def test_first_come_first_served_even_when_a_later_one_would_fit() -> None:
    scheduler = Scheduler(spec(n_kv_blocks=12, batch_size_tokens=48))
    for name, n_prompt in (("first", 36), ("wide", 20), ("narrow", 2)):
        scheduler.add(make_request(name, n_prompt, 2))
    batch, _ = step(scheduler)
    assert [c.request.id for c in batch.chunks] == ["first"]
    assert scheduler.n_waiting == 2


def test_the_newest_is_preempted_and_its_output_is_prefilled_again() -> None:
    scheduler = Scheduler(spec(n_kv_blocks=12, max_context_len=48))
    old, new = make_request("old", 16, 30), make_request("new", 16, 30)
    scheduler.add(old)
    scheduler.add(new)
    while not scheduler.n_preemptions:
        step(scheduler)
    assert new.status is Status.WAITING
    assert new.n_preemptions == 1
    assert new.block_table == []
    known = new.n_tokens
    assert known > 16
    batch, _ = step(scheduler)
    while not new.block_table:
        batch, _ = step(scheduler)
    again = next(c for c in batch.chunks if c.request is new)
    assert (again.phase, again.start) == (Phase.PREFILL, 0)
    assert new.n_to_prefill == known
    assert new.tokens(14, 4) == [15, 16, 7, 7]
    while scheduler.has_work:
        step(scheduler)
    assert len(old.output_token_ids) == len(new.output_token_ids) == 30
    assert scheduler.pool.n_free == 12


def test_stop_tokens_end_a_request_unless_told_to_go_on() -> None:
    scheduler = Scheduler(spec(), eos_token_ids=[7])
    obedient = make_request("obedient", 3, 9)
    stubborn = make_request("stubborn", 3, 2, ignore_eos=True)
    own = make_request("own", 3, 9, ignore_eos=True, stop_token_ids=frozenset({7}))
    for request in (obedient, stubborn, own):
        scheduler.add(request)
    _, finished = step(scheduler)
    assert finished == [obedient, own]
    assert obedient.finish_reason is FinishReason.STOP
    assert obedient.output_token_ids == [7]
    _, finished = step(scheduler)
    assert stubborn.finish_reason is FinishReason.LENGTH


def test_abort_waiting_running_and_while_its_step_runs() -> None:
    scheduler = Scheduler(spec(max_batch_size=1))
    running, waiting = make_request("running", 4, 9), make_request("waiting", 4, 9)
    scheduler.add(running)
    scheduler.add(waiting)
    batch = scheduler.schedule(0.0)
    assert scheduler.abort("running", 1.0) is running
    assert scheduler.record(batch, {"running": 7}, 2.0) == []
    assert running.output_token_ids == []
    assert running.finish_reason is FinishReason.ABORT
    assert scheduler.abort("waiting", 1.0, FinishReason.STOP) is waiting
    assert waiting.finish_reason is FinishReason.STOP
    assert scheduler.abort("nobody", 1.0) is None
    assert not scheduler.has_work
    assert scheduler.pool.n_free == scheduler.pool.n_blocks


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_request("a", 0, 1), "prompt is empty"),
        (lambda: make_request("a", 1, 0), "max_tokens=0"),
        (lambda: make_request("a", 1, 1, temperature=-0.1), r"temperature=-0\.1"),
        (lambda: make_request("a", 1, 1, top_p=0.0), r"top_p=0\.0"),
        (lambda: make_request("a", 1, 1, top_k=-1), "top_k=-1"),
        (lambda: Scheduler(spec()).add(make_request("a", 40, 9)), "exceed max_context_len=48"),
    ],
)
def test_nonsense_is_refused_in_one_line(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(SpecError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_an_id_in_use_is_refused() -> None:
    scheduler = Scheduler(spec())
    scheduler.add(make_request("a", 1, 1))
    with pytest.raises(SpecError, match="has this id"):
        scheduler.add(make_request("a", 1, 1))


def test_freeing_twice_is_our_mistake() -> None:
    pool = BlockPool(4, 16)
    blocks = pool.allocate(2)
    assert pool.used_frac == 0.5
    pool.free(blocks)
    with pytest.raises(AssertionError, match="freed twice"):
        pool.free(blocks)
    with pytest.raises(AssertionError, match="wanted"):
        pool.allocate(5)


def test_load_counts_the_least_and_executed_load_what_is_multiplied() -> None:
    scheduler = Scheduler(spec(batch_size_tokens=32))
    scheduler.add(make_request("a", 6, 9))
    batch, _ = step(scheduler)
    assert batch.load == (6, 0, 21, 0, 1)
    assert batch.executed_load(4) == (6, 0, 6 * 8, 0, 1)
    scheduler.add(make_request("b", 2, 9))
    step(scheduler)
    batch, _ = step(scheduler)
    assert batch.load == (0, 2, 0, 8 + 3, 2)
    assert batch.executed_load(4) == (0, 2, 0, 2 * 8, 2)


traces = st.lists(
    st.tuples(st.integers(1, 30), st.integers(1, 18), st.integers(0, 6), st.booleans()),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(traces, st.integers(12, 20), st.integers(4, 24), st.integers(1, 4))
def test_invariants_whatever_comes(
    trace: list[tuple[int, int, int, bool]], n_blocks: int, budget: int, batch_size: int
) -> None:
    scheduler = Scheduler(spec(n_kv_blocks=n_blocks, batch_size_tokens=budget, max_batch_size=batch_size))
    pending = [
        (at, make_request(str(i), n_prompt, n_out), leaves) for i, (n_prompt, n_out, at, leaves) in enumerate(trace)
    ]
    everyone = [request for _, request, _ in pending]
    for now in range(2000):
        for entry in [entry for entry in pending if entry[0] <= now]:
            pending.remove(entry)
            scheduler.add(entry[1])
            if entry[2] and now % 2:
                scheduler.abort(entry[1].id, now)
        batch, _ = step(scheduler, now_s=now)
        assert batch.load.n_tokens <= budget
        assert scheduler.n_running <= batch_size
        held = [block for request in everyone for block in request.block_table]
        assert len(held) == len(set(held)) == n_blocks - scheduler.pool.n_free
        for request in everyone:
            assert request.finish_reason or len(request.block_table) * 4 >= request.n_computed
        if not pending and not scheduler.has_work:
            break
    assert scheduler.pool.n_free == n_blocks
    for request in everyone:
        n_expected = 0 if request.finish_reason is FinishReason.ABORT else request.params.max_tokens
        assert len(request.output_token_ids) == n_expected
    # first come, first served: without preemption nobody starts before one that came earlier
    if not scheduler.n_preemptions:
        started = [r.scheduled_s for r in sorted(everyone, key=lambda r: (trace[int(r.id)][2], int(r.id)))]
        known = [s for s in started if s is not None]
        assert known == sorted(known)
