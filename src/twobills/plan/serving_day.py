"""One day of instances that serve a load: what they use, how busy they are, how long requests wait.

A chip draws its rated watts times the server's factor times the mean draw while steps run (``plan.training``), and
``IDLE_DRAW`` of that while none does. FLOPs and bytes are those of the steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from twobills.counts.serving_step import serving_step
from twobills.plan.interval import Spread, forecast_spread
from twobills.plan.queueing import wait_quantile_s
from twobills.plan.serving_figures import NO_SPREAD, Outcome
from twobills.plan.serving_split import TokenShares, situation_of
from twobills.plan.steady import Instance, Steady
from twobills.plan.training import server_watts
from twobills.specs.cluster import ClusterSpec
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec
from twobills.specs.running import Running
from twobills.units import SECONDS_PER_DAY
from twobills.usage import Energy, Job, Origin, Phase, PhaseUsage, Stamp, Usage

IDLE_DRAW = 0.4
"""Assumed: what a server draws while it waits for requests, over its mean draw at work."""


class Served(NamedTuple):
    """A load on its instances; instance and steady state have one row."""

    model: ModelSpec
    load: Load
    cluster: ClusterSpec
    """One instance's chips."""
    n_instances: int
    n_needed: float | None
    """At the target utilisation, before rounding up; None where their number is given or all work."""
    capacity_per_s: float
    """Answers that one instance can give at most."""
    instance: Instance
    steady: Steady
    shares: TokenShares
    log_sigma: float
    draft_share: float = 0.0
    """Of the time in which steps run, guessing ahead."""
    decode_work: tuple[float, float] = (1.0, 1.0)
    """FLOPs and bytes of decoding over those of one token in each step; a draft's own are not counted."""

    @property
    def n_chips(self) -> int:
        """Chips that are paid for."""
        return self.cluster.n_chips * self.n_instances

    @property
    def answers_per_s(self) -> float:
        """Of all instances."""
        return float(self.steady.answers_per_s[0]) * self.n_instances

    @property
    def busy_frac(self) -> float:
        """Share of the time in which an instance has any request: all of it with clients or a queue, else 1 - e^-n.

        Requests that come at random and stay a while are, at any moment, Poisson in number (M/G/infinity).
        """
        if self.load.requests_per_s is None:
            return 1.0
        stay_s = float(self.steady.ttft_s[0] + (self.load.answer_tokens - 1) * self.steady.tpot_s[0])
        return -math.expm1(-float(self.steady.answers_per_s[0]) * stay_s)


def outcome_of(served: Served) -> Outcome:
    """What it comes to."""
    return Outcome(
        load=served.load,
        n_chips=served.n_chips,
        answers_per_s=served.answers_per_s,
        capacity_per_s=served.capacity_per_s * served.n_instances,
        ttft_s=float(served.steady.ttft_s[0]),
        ttft_p50_s=ttft_quantile_s(0.5, served),
        ttft_p99_s=ttft_quantile_s(0.99, served),
        tpot_s=float(served.steady.tpot_s[0]),
        shares=served.shares,
        chips_spread=instances_spread(served.n_needed, served.n_instances, served.log_sigma),
        log_sigma=served.log_sigma,
    )


def ttft_quantile_s(quantile: float, served: Served) -> float:
    """The time to the first token that this share of requests does not exceed, s.

    Requests that come as they like queue behind each other's prompts; clients and a queue are let in one by one, and
    wait for the rest of a running step, then for what ``Steady.queue_s`` says beyond half a step.
    """
    steady = served.steady
    step, reading = float(steady.step_s[0]), float(steady.ttft_s[0] - steady.queue_s[0])
    if served.load.requests_per_s is None:
        held_back = max(float(steady.queue_s[0]) - step / 2, 0.0)
        return reading + held_back + wait_quantile_s(quantile, 0.0, reading, step)
    return reading + wait_quantile_s(quantile, float(steady.utilization[0]), reading, step)


def instances_spread(n_needed: float | None, n_instances: int, log_sigma: float) -> Spread:
    """Of a number of whole instances that is ours to choose, if their speed is off; none of one that is given."""
    if n_needed is None:
        return NO_SPREAD
    low, high = (max(1, math.ceil(n_needed * factor)) for factor in forecast_spread(log_sigma))
    return Spread(min(low / n_instances, 1.0), max(high / n_instances, 1.0))


def day_usage(served: Served, running: Running) -> Usage:
    """Usage of one day of the reserved machines under this load."""
    answers, load, shares = served.answers_per_s * SECONDS_PER_DAY, served.load, served.shares
    reserved = served.n_chips * SECONDS_PER_DAY
    used = reserved * served.busy_frac
    watts = server_watts(served.cluster, running)
    read_tokens, written = answers * load.prompt_tokens * (1 - load.cached_frac), answers * load.answer_tokens
    alone, prompts = _work_of_day(served, read_tokens, written)
    phases = {
        Phase.PREFILL: phase_usage(used * shares.prompts, watts, tokens=read_tokens, work=prompts),
        Phase.DECODE: phase_usage(used * (1 - shares.prompts - served.draft_share), watts, tokens=written, work=alone),
        **({Phase.DRAFT: phase_usage(used * served.draft_share, watts)} if served.draft_share else {}),
        Phase.IDLE: phase_usage(reserved - used, None if watts is None else IDLE_DRAW * watts),
    }
    return Usage(job=Job.INFERENCE, origin=Origin.PREDICTED, phases=phases)


def phase_usage(
    chip_s: float, watts: float | None, *, tokens: float = 0.0, work: tuple[float, float] = (0.0, 0.0)
) -> PhaseUsage:
    """Chip-seconds at so many watts, with FLOPs and bytes."""
    energy = Energy() if watts is None else Energy.of(watts * chip_s, Stamp.DECLARED)
    return PhaseUsage(tokens=tokens, flops=work[0], bytes=work[1], chip_s=chip_s, energy=energy)


def _work_of_day(served: Served, read_tokens: float, written: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """FLOPs and bytes of decoding, and of what prompts add to it."""
    n = float(served.steady.n_running[0])
    n_steps = written / max(n, 1e-9)
    alone, both = _step_work(served, n, 0.0), _step_work(served, n, read_tokens / n_steps)
    added = ((both[0] - alone[0]) * n_steps, (both[1] - alone[1]) * n_steps)
    flops, moved = served.decode_work
    return (alone[0] * n_steps * flops, alone[1] * n_steps * moved), added


def _step_work(served: Served, n_running: float, n_read: float) -> tuple[float, float]:
    """FLOPs and bytes of one step over all chips of an instance."""
    context = served.load.prompt_tokens + served.load.answer_tokens / 2
    situation = situation_of(served.instance, n_running, context, n_read, served.load.prompt_tokens)
    work = serving_step(served.model, situation).work
    flops, moved = (sum(float(np.sum(w.calls * getattr(w, kind))) for w in work) for kind in ("flops", "bytes"))
    return flops * served.cluster.n_chips, moved * served.cluster.n_chips
