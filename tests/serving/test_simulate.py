"""The simulator against queueing theory, against itself, and against a loop with the same scheduler."""

from __future__ import annotations

import random

import pytest

from twobills.errors import SpecError
from twobills.serving.arrivals import ClosedLoop, OpenLoop, poisson_times
from twobills.serving.metrics import latencies, percentiles, timing
from twobills.serving.request import Request, SamplingParams
from twobills.serving.scheduler import Batch, Scheduler
from twobills.serving.simulate import simulate
from twobills.specs.serving import ServingSpec

SPEC = ServingSpec(max_batch_size=4, batch_size_tokens=32, kv_block_tokens=4, n_kv_blocks=16, max_context_len=64)


def trace(n_requests: int = 30, seed: int = 3) -> list[Request]:
    rng = random.Random(seed)
    return [
        Request(
            id=str(i),
            prompt_token_ids=(1,) * rng.randint(1, 40),
            params=SamplingParams(max_tokens=rng.randint(1, 20)),
            arrival_s=at,
        )
        for i, at in enumerate(poisson_times(0.15, n_requests, seed=seed))
    ]


def seconds(batch: Batch) -> float:
    return 1.0 + 0.01 * batch.load.n_tokens


def decisions(batch: Batch) -> list[tuple[str, int, int]]:
    return [(chunk.request.id, chunk.start, chunk.n_tokens) for chunk in batch.chunks]


@pytest.mark.parametrize("utilisation", [0.3, 0.7])
def test_batch_size_one_is_the_md1_queue(utilisation: float) -> None:
    """Mean wait = rho s / (2 (1 - rho)) for service time s (Pollaczek-Khinchine). 5 % for 20,000 requests."""
    service_s = 2.0
    times = poisson_times(utilisation / service_s, 20_000, seed=1)
    requests = [
        Request(id=str(i), prompt_token_ids=(1,), params=SamplingParams(max_tokens=1), arrival_s=at)
        for i, at in enumerate(times)
    ]
    one = ServingSpec(max_batch_size=1, batch_size_tokens=8, n_kv_blocks=64)
    result = simulate(requests, one, lambda _: service_s)
    waits = latencies(result.requests).queue_s
    assert waits is not None
    assert waits.mean == pytest.approx(utilisation * service_s / (2 * (1 - utilisation)), rel=0.05)
    assert result.busy_s == pytest.approx(20_000 * service_s)
    assert result.idle_s == pytest.approx(result.end_s - result.busy_s)


def test_the_same_trace_twice_makes_the_same_decisions() -> None:
    seen: list[list[list[tuple[str, int, int]]]] = [[], []]
    for decided in seen:

        def watched(batch: Batch, decided: list[list[tuple[str, int, int]]] = decided) -> float:
            decided.append(decisions(batch))
            return seconds(batch)

        result = simulate(trace(), SPEC, watched)
        assert all(timing(request) for request in result.requests)
    assert seen[0] == seen[1]


def test_a_fake_engine_loop_decides_as_the_simulator() -> None:
    simulated = []

    def watched(batch: Batch) -> float:
        simulated.append(decisions(batch))
        return seconds(batch)

    result = simulate(trace(), SPEC, watched)
    assert result.n_preemptions > 0, "the trace is meant to be tight"
    looped, scheduler, now_s = [], Scheduler(SPEC), 0.0
    waiting = trace()
    while waiting or scheduler.has_work:
        if not scheduler.has_work:
            now_s = max(now_s, waiting[0].arrival_s)
        while waiting and waiting[0].arrival_s <= now_s:
            scheduler.add(waiting.pop(0))
        batch = scheduler.schedule(now_s)
        looped.append(decisions(batch))
        now_s += seconds(batch)
        scheduler.record(batch, {chunk.request.id: 0 for chunk in batch.chunks}, now_s)
    assert looped == simulated
    assert now_s == result.end_s


def test_closed_loop_holds_the_concurrency() -> None:
    result = simulate(trace(), SPEC, seconds, concurrency=3)
    assert result.idle_s == pytest.approx(0.0, abs=1e-9)
    events = [(r.arrival_s, 1) for r in result.requests] + [(r.finished_s or 0.0, -1) for r in result.requests]
    in_flight = peak = 0
    for _, change in sorted(events):
        in_flight += change
        peak = max(peak, in_flight)
    assert peak == 3


def test_times_and_tokens_add_up() -> None:
    result = simulate(trace(), SPEC, seconds, prefill_share=lambda _: 0.25)
    assert result.prefill_s + result.decode_s == pytest.approx(result.busy_s)
    n_generated = sum(len(request.output_token_ids) for request in result.requests)
    assert n_generated == sum(request.params.max_tokens for request in result.requests)
    assert sum(step.load.n_logits for step in result.steps) == n_generated
    mixed = [s for s in result.steps if s.load.n_prefill_tokens and s.load.n_decode_tokens]
    assert mixed
    assert all(s.prefill_s == pytest.approx(0.25 * s.duration_s) for s in mixed)


def test_mistakes_are_named() -> None:
    done = trace(2)
    simulate(done, SPEC, seconds)
    with pytest.raises(SpecError, match="served already"):
        simulate(done, SPEC, seconds)
    with pytest.raises(SpecError, match="step_time=0"):
        simulate(trace(2), SPEC, lambda _: 0)
    with pytest.raises(SpecError, match="sort them"):
        OpenLoop(trace(2)[::-1])
    with pytest.raises(SpecError, match="concurrency=0"):
        ClosedLoop([], 0)
    with pytest.raises(SpecError, match="rate_per_s=0"):
        poisson_times(0, 1, seed=0)


def test_percentiles_interpolate() -> None:
    assert percentiles([]) is None
    spread = percentiles([float(x) for x in range(101)])
    assert spread == (50.0, 50.0, 90.0, 95.0, 99.0)
