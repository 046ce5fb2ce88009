"""A served load in figures with intervals: latencies, throughput, one day's bill, dollars per token, power.

Joules are counted at the server's plug, as ``plan.training`` counts them: rated chip watts x server's factor x mean
draw while steps run, ``IDLE_DRAW`` of that while none does. What a bill charges for a joule includes cooling already;
watts and joules per token shown here are the facility's, cooling included once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from twobills.counts.serving_step import serving_step
from twobills.money.bill import Bill, busy_usd, price
from twobills.money.rates import Rates
from twobills.plan.interval import Interval, Spread, around, combined, forecast_spread
from twobills.plan.queueing import wait_quantile_s
from twobills.plan.serving_split import TokenShares, situation_of
from twobills.plan.steady import Instance, Steady
from twobills.plan.training import server_watts
from twobills.specs.cluster import ClusterSpec
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec
from twobills.specs.running import Running
from twobills.units import MEGA, SECONDS_PER_DAY
from twobills.usage import Energy, Job, Origin, Phase, PhaseUsage, Stamp, Usage

IDLE_DRAW = 0.4
"""Assumed: what a server draws while it waits for requests, over its mean draw at work."""
_NO_SPREAD = Spread(1.0, 1.0)


class ServingFigures(NamedTuple):
    """Each with its interval; dollars per million tokens; watts and joules are None where no power is known."""

    ttft_s: Interval
    """Mean, with its wait in the queue."""
    ttft_p50_s: Interval
    ttft_p99_s: Interval
    tpot_s: Interval
    e2e_s: Interval
    """Mean, from request to last token."""
    output_tokens_per_s: Interval
    """Of all instances."""
    output_tokens_per_s_per_chip: Interval
    output_tokens_per_s_per_user: Interval
    """While an answer is written."""
    usd_per_mtok_input: Interval
    usd_per_mtok_cached_input: Interval
    """What a cached token costs, or would cost where none is cached."""
    usd_per_mtok_output: Interval
    usd_per_mtok_input_reserved: Interval
    usd_per_mtok_cached_input_reserved: Interval
    usd_per_mtok_output_reserved: Interval
    usd_per_request: Interval
    usd_per_request_reserved: Interval
    usd_per_day: Interval
    """Of the reserved machines, always on."""
    watts: Interval | None
    """Mean draw of the facility for all chips reserved."""
    j_per_token: Interval | None
    """The same per output token."""


class Served(NamedTuple):
    """A load on its instances; instance and steady state have one row."""

    model: ModelSpec
    load: Load
    cluster: ClusterSpec
    """One instance's chips."""
    n_instances: int
    n_needed: float | None
    capacity_per_s: float
    instance: Instance
    steady: Steady
    shares: TokenShares
    running: Running
    log_sigma: float

    @property
    def n_chips(self) -> int:
        """Chips that are paid for."""
        return self.cluster.n_chips * self.n_instances

    @property
    def answers_per_s(self) -> float:
        """Of all instances."""
        return float(self.steady.answers_per_s[0]) * self.n_instances

    @property
    def e2e_s(self) -> float:
        """Mean seconds from request to last token."""
        return float(self.steady.ttft_s[0] + (self.load.answer_tokens - 1) * self.steady.tpot_s[0])

    @property
    def busy_frac(self) -> float:
        """Share of the time in which an instance has any request: all of it with clients or a queue, else 1 - e^-n.

        Requests that come at random and stay a while are, at any moment, Poisson in number (M/G/infinity).
        """
        if self.load.requests_per_s is None:
            return 1.0
        return -math.expm1(-float(self.steady.answers_per_s[0]) * self.e2e_s)


def day_bill(served: Served, rates: Rates) -> Bill:
    """The bill of one day of the reserved machines under this load."""
    answers, shares = served.answers_per_s * SECONDS_PER_DAY, served.shares
    reserved = served.n_chips * SECONDS_PER_DAY
    used = reserved * served.busy_frac
    watts = server_watts(served.cluster, served.running)
    read_tokens = answers * served.load.prompt_tokens * (1 - served.load.cached_frac)
    n_steps = answers * served.load.answer_tokens / max(float(served.steady.n_running[0]), 1e-9)
    n_read = read_tokens / n_steps

    def phase(
        chip_s: float, tokens: float = 0.0, work: tuple[float, float] = (0.0, 0.0), draw: float = 1.0
    ) -> PhaseUsage:
        energy = Energy() if watts is None else Energy.of(watts * draw * chip_s, Stamp.DECLARED)
        return PhaseUsage(tokens=tokens, flops=work[0], bytes=work[1], chip_s=chip_s, energy=energy)

    alone, both = _step_work(served, 0.0), _step_work(served, n_read)
    phases = {
        Phase.PREFILL: phase(
            used * shares.prompts, read_tokens, ((both[0] - alone[0]) * n_steps, (both[1] - alone[1]) * n_steps)
        ),
        Phase.DECODE: phase(
            used * (1 - shares.prompts),
            answers * served.load.answer_tokens,
            (alone[0] * n_steps, alone[1] * n_steps),
        ),
        Phase.IDLE: phase(reserved - used, draw=IDLE_DRAW),
    }
    return price(Usage(job=Job.INFERENCE, origin=Origin.PREDICTED, phases=phases), rates)


def figures_of(served: Served, bill: Bill) -> ServingFigures:
    """All figures of a day's bill and a steady state."""
    load, steady, sigma = served.load, served.steady, served.log_sigma
    answers = served.answers_per_s * SECONDS_PER_DAY
    tokens_per_s = served.answers_per_s * load.answer_tokens
    per_s = _throughput(served, tokens_per_s)
    reserved = combined(1.0, _instances_spread(served), *_paid_power(bill, served.running)).spread
    used = combined(1.0, forecast_spread(sigma), *_paid_power(bill, served.running)).spread
    used = Spread(used.low, max(1.0, min(used.high, reserved.high * bill.total_usd / max(busy_usd(bill), 1e-300))))
    prices = {"": (busy_usd(bill) / answers, used), "_reserved": (bill.total_usd / answers, reserved)}
    dollars = {}
    for view, (usd, spread) in prices.items():
        dollars[f"usd_per_request{view}"] = combined(usd, spread)
        for kind, share in _per_token(served).items():
            dollars[f"usd_per_mtok_{kind}{view}"] = combined(usd * share * MEGA, spread)
    watts = _facility_watts(served, bill)
    return ServingFigures(
        ttft_s=around(float(steady.ttft_s[0]), sigma),
        ttft_p50_s=around(ttft_quantile_s(0.5, served), sigma),
        ttft_p99_s=around(ttft_quantile_s(0.99, served), sigma),
        tpot_s=around(float(steady.tpot_s[0]), sigma),
        e2e_s=around(served.e2e_s, sigma),
        output_tokens_per_s=per_s,
        output_tokens_per_s_per_chip=combined(tokens_per_s / served.n_chips, per_s.spread),
        output_tokens_per_s_per_user=around(1 / float(steady.tpot_s[0]), sigma),
        usd_per_day=combined(bill.total_usd, reserved),
        watts=watts,
        j_per_token=None if watts is None else combined(watts.value / tokens_per_s, watts.spread, *_of_speed(served)),
        **dollars,
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


def _per_token(served: Served) -> dict[str, float]:
    """Share of a request's dollars that one token of each kind pays."""
    load, shares = served.load, served.shares
    return {
        "input": shares.input / (load.prompt_tokens * (1 - load.cached_frac)),
        "cached_input": shares.cache_per_prompt_token,
        "output": shares.output / load.answer_tokens,
    }


def _throughput(served: Served, tokens_per_s: float) -> Interval:
    """Requests that come as they like are answered as they come, unless the chips turn out too slow for them."""
    if served.load.requests_per_s is None:
        return around(tokens_per_s, served.log_sigma)
    slowest = served.capacity_per_s * served.n_instances * forecast_spread(served.log_sigma).low
    return Interval(tokens_per_s, min(tokens_per_s, slowest * served.load.answer_tokens), tokens_per_s)


def _of_speed(served: Served) -> tuple[Spread, ...]:
    return (forecast_spread(served.log_sigma),) if served.load.requests_per_s is None else ()


def _instances_spread(served: Served) -> Spread:
    """Of what is reserved: whole instances if their number is ours, else per token what the speed is off by."""
    if served.load.requests_per_s is None:
        return forecast_spread(served.log_sigma)
    if served.n_needed is None:
        return _NO_SPREAD
    forecast = forecast_spread(served.log_sigma)
    low, high = (max(1, math.ceil(served.n_needed * factor)) for factor in forecast)
    return Spread(min(low / served.n_instances, 1.0), max(high / served.n_instances, 1.0))


def _facility_watts(served: Served, bill: Bill) -> Interval | None:
    joules = bill.usage.total.energy.total_j
    if not joules:
        return None
    power = (source_spread(served.running, name) for name in ("mean_draw_frac", "server_power_factor", "pue"))
    return combined(joules * served.running.pue / SECONDS_PER_DAY, *power)


def _paid_power(bill: Bill, running: Running) -> list[Spread]:
    share = sum(line.energy_usd for line in bill.lines) / bill.total_usd if bill.total_usd else 0.0
    names = ("mean_draw_frac", "server_power_factor", "pue")
    return [source_spread(running, name).weighted(share) for name in names]


def source_spread(running: Running, name: str) -> Spread:
    """The range that sources span around a default; none around a user's own figure."""
    fact, value = running.facts.get(name), getattr(running, name)
    if fact is None or fact.value != value or not value:
        return _NO_SPREAD
    return Spread(fact.low / value, fact.high / value)


def _step_work(served: Served, n_read: float) -> tuple[float, float]:
    """FLOPs and bytes of one step over all chips of an instance."""
    n = float(served.steady.n_running[0])
    context = served.load.prompt_tokens + served.load.answer_tokens / 2
    situation = situation_of(served.instance, n, context, n_read, served.load.prompt_tokens)
    work = serving_step(served.model, situation).work
    flops, moved = (sum(float(np.sum(w.calls * getattr(w, kind))) for w in work) for kind in ("flops", "bytes"))
    return flops * served.cluster.n_chips, moved * served.cluster.n_chips
