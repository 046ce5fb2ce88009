"""A served load in figures with intervals: latencies, throughput, dollars per token, power, from one day's bill.

Joules are counted at the server's plug, as ``plan.training`` counts them. What a bill charges for a joule includes
cooling already; watts and joules per token shown here are the facility's, cooling included once. A used dollar misses
by what the speed misses by, and never costs more than a reserved one.
"""

from __future__ import annotations

from typing import NamedTuple

from twobills.money.bill import Bill, busy_usd
from twobills.plan.interval import Interval, Spread, around, combined, forecast_spread
from twobills.plan.serving_split import TokenShares
from twobills.specs.load import Load
from twobills.specs.running import Running
from twobills.units import MEGA, SECONDS_PER_DAY

NO_SPREAD = Spread(1.0, 1.0)
_POWER = ("mean_draw_frac", "server_power_factor", "pue")


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


class Outcome(NamedTuple):
    """What a load comes to on its machines, before it is priced."""

    load: Load
    n_chips: int
    """That are paid for."""
    answers_per_s: float
    capacity_per_s: float
    """Answers that these chips can give at most."""
    ttft_s: float
    ttft_p50_s: float
    ttft_p99_s: float
    tpot_s: float
    shares: TokenShares
    chips_spread: Spread
    """Of the number of chips that it takes, if speeds are off."""
    log_sigma: float

    @property
    def e2e_s(self) -> float:
        """Mean seconds from request to last token."""
        return self.ttft_s + (self.load.answer_tokens - 1) * self.tpot_s

    @property
    def open(self) -> bool:
        """Whether requests come as they like, so that slower chips do not make them fewer."""
        return self.load.requests_per_s is not None


def figures_of(out: Outcome, bill: Bill, running: Running) -> ServingFigures:
    """All figures; ``bill`` is of one day."""
    tokens_per_s = out.answers_per_s * out.load.answer_tokens
    per_s = _throughput(out, tokens_per_s)
    watts = _facility_watts(bill, running)
    slower = [] if out.open else [forecast_spread(out.log_sigma)]
    return ServingFigures(
        **{name: around(getattr(out, name), out.log_sigma) for name in _LATENCIES},
        output_tokens_per_s=per_s,
        output_tokens_per_s_per_chip=combined(tokens_per_s / out.n_chips, per_s.spread),
        output_tokens_per_s_per_user=around(1 / out.tpot_s, out.log_sigma),
        **_dollars(out, bill, running),
        watts=watts,
        j_per_token=None if watts is None else combined(watts.value / tokens_per_s, watts.spread, *slower),
    )


_LATENCIES = ("ttft_s", "ttft_p50_s", "ttft_p99_s", "tpot_s", "e2e_s")


def _dollars(out: Outcome, bill: Bill, running: Running) -> dict[str, Interval]:
    """Per day, per request and per token in both views."""
    answers, power = out.answers_per_s * SECONDS_PER_DAY, _paid_power(bill, running)
    speed = forecast_spread(out.log_sigma)
    reserved = combined(1.0, out.chips_spread if out.open else speed, *power).spread
    used, busy = combined(1.0, speed, *power).spread, busy_usd(bill)
    used = Spread(used.low, max(1.0, min(used.high, reserved.high * bill.total_usd / busy if busy else 1.0)))
    # A day costs the same however fast the chips are; only how many there are moves it.
    found = {"usd_per_day": combined(bill.total_usd, out.chips_spread, *power)}
    for view, usd, spread in (("", busy, used), ("_reserved", bill.total_usd, reserved)):
        found[f"usd_per_request{view}"] = combined(usd / answers, spread)
        for kind, share in _per_token(out).items():
            found[f"usd_per_mtok_{kind}{view}"] = combined(usd / answers * share * MEGA, spread)
    return found


def _per_token(out: Outcome) -> dict[str, float]:
    """Share of a request's dollars that one token of each kind pays."""
    load, shares = out.load, out.shares
    return {
        "input": shares.input / (load.prompt_tokens * (1 - load.cached_frac)),
        "cached_input": shares.cache_per_prompt_token,
        "output": shares.output / load.answer_tokens,
    }


def _throughput(out: Outcome, tokens_per_s: float) -> Interval:
    """Requests that come as they like are answered as they come, unless the chips turn out too slow for them."""
    if not out.open:
        return around(tokens_per_s, out.log_sigma)
    slowest = out.capacity_per_s * forecast_spread(out.log_sigma).low * out.chips_spread.high
    return Interval(tokens_per_s, min(tokens_per_s, slowest * out.load.answer_tokens), tokens_per_s)


def _facility_watts(bill: Bill, running: Running) -> Interval | None:
    joules = bill.usage.total.energy.total_j
    if not joules:
        return None
    return combined(joules * running.pue / SECONDS_PER_DAY, *(source_spread(running, name) for name in _POWER))


def _paid_power(bill: Bill, running: Running) -> list[Spread]:
    share = sum(line.energy_usd for line in bill.lines) / bill.total_usd if bill.total_usd else 0.0
    return [source_spread(running, name).weighted(share) for name in _POWER]


def source_spread(running: Running, name: str) -> Spread:
    """The range that sources span around a default; none around a user's own figure."""
    fact, value = running.facts.get(name), getattr(running, name)
    if fact is None or fact.value != value or not value:
        return NO_SPREAD
    return Spread(fact.low / value, fact.high / value)
