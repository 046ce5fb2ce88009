"""What would happen to these requests on an engine whose steps take ``step_time(batch)`` seconds.

The engine's own scheduler on a virtual clock: no torch, no real time. Answers have exactly ``max_tokens``
tokens. A step's time is split between prefill and decode by ``prefill_share``, by tokens if none is given.
Time between the first and last event in which no request is there is idle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twobills.errors import SpecError
from twobills.serving.arrivals import Arrivals, ClosedLoop, OpenLoop
from twobills.serving.load import StepLoad
from twobills.serving.request import Request
from twobills.serving.scheduler import Batch, Scheduler
from twobills.specs.serving import ServingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One simulated step."""

    load: StepLoad
    start_s: float
    duration_s: float
    prefill_s: float
    """The part of ``duration_s`` that is prefill's; the rest is decode's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult:
    """What happened, in order."""

    requests: tuple[Request, ...]
    """As they came in; ``serving.metrics`` reads their times."""
    steps: tuple[StepRecord, ...]
    end_s: float
    """When the last request finished, on a clock that starts at 0."""
    n_preemptions: int

    @property
    def busy_s(self) -> float:
        """Seconds in which a step ran."""
        return sum(step.duration_s for step in self.steps)

    @property
    def prefill_s(self) -> float:
        """Busy seconds that are prefill's."""
        return sum(step.prefill_s for step in self.steps)

    @property
    def decode_s(self) -> float:
        """Busy seconds that are decode's."""
        return self.busy_s - self.prefill_s

    @property
    def idle_s(self) -> float:
        """Seconds without a request."""
        return self.end_s - self.busy_s

    @property
    def n_prefill_tokens(self) -> int:
        """Prompt tokens computed, recomputation after preemption included."""
        return sum(step.load.n_prefill_tokens for step in self.steps)

    @property
    def n_decode_tokens(self) -> int:
        """Tokens computed one at a time. A request's first token comes out of its prompt's last step."""
        return sum(step.load.n_decode_tokens for step in self.steps)


def simulate(
    requests: Sequence[Request],
    spec: ServingSpec,
    step_time: Callable[[Batch], float],
    *,
    concurrency: int | None = None,
    prefill_share: Callable[[Batch], float] | None = None,
) -> SimulationResult:
    """Serves the requests on a virtual clock, and writes their times and (empty) answers into them.

    ``step_time`` returns seconds. With ``concurrency`` so many are in flight at once (closed loop);
    without, each arrives at its ``arrival_s``. ``prefill_share`` returns the part of a step, 0 to 1, that
    is prefill's. Raises SpecError if a request can never fit, was served already, or a step takes no time.
    """
    for request in requests:
        if request.finish_reason is not None or request.output_token_ids:
            raise SpecError(f"request {request.id}: was served already; make a new one to simulate again")
    arrivals = OpenLoop(requests) if concurrency is None else ClosedLoop(requests, concurrency)
    scheduler = Scheduler(spec)
    steps: list[StepRecord] = []
    now_s = 0.0
    while True:
        now_s = _let_in(arrivals, scheduler, now_s)
        batch = scheduler.schedule(now_s)
        if not batch:
            break
        step = _step_record(batch, now_s, step_time(batch), prefill_share or _share_by_tokens)
        steps.append(step)
        now_s += step.duration_s
        scheduler.record(batch, {chunk.request.id: 0 for chunk in batch.chunks}, now_s)
    return SimulationResult(
        requests=tuple(requests), steps=tuple(steps), end_s=now_s, n_preemptions=scheduler.n_preemptions
    )


def _let_in(arrivals: Arrivals, scheduler: Scheduler, now_s: float) -> float:
    """Queues what is due, waiting for the next arrival if nothing else is there; the time it is then, s."""
    if not scheduler.has_work and arrivals.next_s is not None:
        now_s = max(now_s, arrivals.next_s)
    for request in arrivals.due(now_s, scheduler.n_running + scheduler.n_waiting):
        scheduler.add(request)
    return now_s


def _step_record(
    batch: Batch, start_s: float, duration_s: float, prefill_share: Callable[[Batch], float]
) -> StepRecord:
    if not duration_s > 0:
        raise SpecError(f"step_time={duration_s}: a step must take more than 0 s")
    load = batch.load
    if load.n_prefill_tokens and load.n_decode_tokens:
        share = prefill_share(batch)
    else:
        share = 1.0 if load.n_prefill_tokens else 0.0
    return StepRecord(load=load, start_s=start_s, duration_s=duration_s, prefill_s=share * duration_s)


def _share_by_tokens(batch: Batch) -> float:
    load = batch.load
    return load.n_prefill_tokens / load.n_tokens
