"""Hard budgets, asked between two steps: may the next one be taken?

What a step costs is what the last one cost, or the mean of all where that is more. A step is taken only if it and what
must follow it (a checkpoint; after the last step the evaluation and the freezing too) still fit; so a budget is
overspent only by how much that step or the closing work is dearer than was foreseen, at most by a step. Spent is what
all processes of the run spent, lost work included.
"""

from __future__ import annotations

from collections.abc import Callable

from twobills.specs.limits import Limits
from twobills.units import show_flops, show_seconds, show_usd
from twobills.usage import Phase, PhaseUsage, Usage

Price = Callable[[Usage], float]
"""Dollars of a usage: the flow knows the rates."""


class Budget:
    """Watches what a run spends."""

    def __init__(self, limits: Limits, *, price: Price, n_chips: int, spent: Callable[[], Usage]) -> None:
        self._limits, self._price, self._n_chips, self._spent = limits, price, n_chips, spent
        self._begun: tuple[int, PhaseUsage] | None = None
        self._last: PhaseUsage | None = None

    def forecast(self, step: int, foreseen: PhaseUsage) -> PhaseUsage:
        """What a step costs, after ``step`` steps: ``foreseen`` until one was taken."""
        now = self._spent().total
        if self._begun is None:
            self._begun, self._last = (step, now), now
            return foreseen
        (first, then), last = self._begun, self._last
        self._last = now
        if last is None or step == first:
            return foreseen
        mean, newest = _minus(now, then).scaled(1 / (step - first)), _minus(now, last)
        return newest if newest.chip_s > mean.chip_s else mean

    def refuses(self, ahead: PhaseUsage) -> str:
        """Why ``ahead`` may not be spent any more, in words; empty if it may."""
        spent, limits = self._spent(), self._limits
        then = spent + Usage(job=spent.job, origin=spent.origin, phases={Phase.PRETRAIN: ahead})
        if limits.max_usd is not None and (usd := self._price(then)) > limits.max_usd:
            return _words("max_usd", show_usd, limits.max_usd, self._price(spent), usd)
        seconds, then_s = (usage.total.chip_s / self._n_chips for usage in (spent, then))
        if limits.max_seconds is not None and then_s > limits.max_seconds:
            return _words("max_seconds", show_seconds, limits.max_seconds, seconds, then_s)
        if limits.max_flops is not None and then.total.flops > limits.max_flops:
            return _words("max_flops", show_flops, limits.max_flops, spent.total.flops, then.total.flops)
        return ""


def _words(name: str, show: Callable[[float], str], limit: float, spent: float, then: float) -> str:
    return f"{name}={limit:g}: {show(spent)} spent, and the next step would make it {show(then)}"


def _minus(a: PhaseUsage, b: PhaseUsage) -> PhaseUsage:
    return a + b.scaled(-1.0)
