"""The meter on anybody's PyTorch training loop: FLOPs, chip-seconds, joules, tokens and dollars, by phase.

    with metered(model, name="my run", usd_per_chip_hour=2.50) as run:
        for inputs, targets in batches:
            ...                        # forward, backward, optimiser
            run.step()
        with run.phase("evaluate"):
            ...

A reading goes into the ledger every few seconds and one when the loop ends, however it ends, so that
``twobills ledger show last`` and ``reconcile last`` know the run as they know ours. FLOPs are counted as
``jobs.executed`` says. Of several processes the first one writes and stands for all. Nothing of the loop's is changed:
no seed, no number of threads, no precision; a GPU is waited for at the edges of a phase, never at a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from twobills.errors import RequestError
from twobills.flows.accounts import account, readings
from twobills.flows.adapters.loop_machine import LoopMachine, Processes, find_loop_machine
from twobills.jobs.counting import Executed
from twobills.jobs.device import synchronise
from twobills.jobs.executed import CountedPasses, CountedSteps
from twobills.ledger.place import default_ledger
from twobills.ledger.store import Ledger
from twobills.meter.meter import Meter
from twobills.money.bill import Bill, price
from twobills.money.rates import at_user_price
from twobills.units import SECONDS_PER_HOUR
from twobills.usage import PHASES, Energy, Job, Origin, Phase, PhaseUsage, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What the loop is expected to take, kept in the ledger before its first step and held against the meter."""

    n_tokens: float
    hours: float
    """Wall hours on the chips that it runs on."""
    usd_per_chip_hour: float | None = None
    """None: the price at which it is metered."""
    watts_per_chip: float | None = None

    def __post_init__(self) -> None:
        for field in ("n_tokens", "hours"):
            if not getattr(self, field) > 0:
                raise RequestError(f"{field}={getattr(self, field)}: must be above 0")


@contextmanager
def metered(
    network: nn.Module | None = None,
    *,
    name: str = "training loop",
    phase: str = "pretrain",
    usd_per_chip_hour: float | None = None,
    watts_per_chip: float | None = None,
    n_chips: int | None = None,
    device: str | None = None,
    plan: Planned | None = None,
    ledger: Path | str | None = None,
) -> Iterator[MeteredRun]:
    """Meters the body, a training loop whose time belongs to ``phase`` (pretrain, finetune or distill).

    ``network`` is what the loop calls (compiled, or wrapped for several processes, if it is); ``watch`` takes it later.
    Without one, whole steps are counted, and ``step`` must be told its tokens. What is not given comes from the
    catalogue: price, watts; a CPU's chips are its cores. ``ledger`` is a file, by default the one of all commands.
    Raises RequestError for a phase that training does not have, or a GPU of unknown price.
    """
    of_loop, processes = _phase(phase), Processes()
    if processes.rank:
        yield MeteredRun(None, of_loop, None, Ledgered(None, None))
        return
    machine = find_loop_machine(
        processes,
        device=device,
        usd_per_chip_hour=usd_per_chip_hour,
        watts_per_chip=watts_per_chip,
        n_chips=n_chips,
    )
    meter = Meter(Job.TRAINING, n_chips=machine.n_chips, power=machine.power, resting=of_loop)
    book = Ledger(Path(ledger) if ledger is not None else default_ledger())
    with account(book, "meter", {"name": name, "phase": of_loop.value, **_machine_to_json(machine)}) as run_id:
        if plan is not None:
            bill = _planned_bill(plan, machine, of_loop)
            book.plan(run_id, bill, {"machine": _machine_to_json(machine), "given": "by the user"})
        with readings(book, run_id, meter, machine.rates), meter.phase(of_loop):
            run = MeteredRun(machine, of_loop, meter, Ledgered(book, run_id))
            try:
                if network is not None:
                    run.watch(network)
                yield run
            finally:
                run.close()


@dataclass(frozen=True, slots=True)
class Ledgered:
    """Where a run's records go; nowhere from any process but the first."""

    ledger: Ledger | None
    run_id: str | None

    def result(self, body: dict[str, Any]) -> None:
        """Adds what came of the run."""
        if self.ledger is not None and self.run_id is not None:
            self.ledger.result(self.run_id, body)


class MeteredRun:
    """A loop under the meter. On processes that do not write, everything here does nothing."""

    def __init__(self, machine: LoopMachine | None, phase: Phase, meter: Meter | None, kept: Ledgered) -> None:
        self._machine, self._phase, self._meter, self._kept = machine, phase, meter, kept
        self._passes: CountedPasses | None = None
        self._steps: dict[Phase, CountedSteps] = {}
        """Of phases in which no pass was heard when their first step ended."""
        self._heard_tokens = 0.0
        self._n_steps: dict[Phase, int] = {}

    @property
    def run_id(self) -> str | None:
        """The run's name in the ledger."""
        return self._kept.run_id

    def watch(self, network: nn.Module) -> None:
        """Counts what the network executes; given again, another network is watched instead."""
        if self._meter is None:
            return
        if self._passes is not None:
            self._passes.close()
        self._passes = CountedPasses(network, self._report)
        self._passes.during = self._phase.value

    def step(self, tokens: float | None = None) -> None:
        """A step is done: forward, backward (of all its micro-batches), update.

        ``tokens`` are those of this process; None takes the elements of the network's integer inputs, padding included.
        """
        if self._meter is None:
            return
        self._n_steps[self._phase] = self._n_steps.get(self._phase, 0) + 1
        if self._passes is not None and self._passes.n_heard:
            self._passes.boundary()
            self._heard_tokens = self._heard_tokens if tokens is None else tokens
        else:  # no network, or one that was compiled around the hook
            steps = self._steps.setdefault(self._phase, CountedSteps(self._report))
            steps.step(tokens or 0.0)
        self._put_tokens()

    @contextmanager
    def phase(self, phase: str) -> Iterator[None]:
        """Charges the body to another phase: evaluate, or lost for work that is done again after a failure."""
        if self._meter is None:
            yield
            return
        before, after = self._phase, _phase(phase)
        self._turn_to(after)
        with self._meter.phase(after):
            try:
                yield
            finally:
                self._turn_to(before)

    def usage(self) -> Usage | None:
        """What was used so far; None on processes that do not write."""
        if self._meter is None:
            return None
        self._meter.tick()
        return self._meter.usage()

    def bill(self) -> Bill | None:
        """What that costs."""
        used = self.usage()
        return price(used, self._machine.rates) if used and self._machine else None

    def close(self) -> None:
        """Ends counting and keeps what came of the run; ``metered`` calls it."""
        if self._meter is None or self._machine is None:
            return
        self._turn_to(self._phase)
        if self._passes is not None:
            self._passes.close()
        counted = [each for each in (self._passes, *self._steps.values()) if each is not None and each.n_counted]
        self._kept.result(
            {
                "steps": {phase.value: n for phase, n in self._n_steps.items()},
                "flops_from": counted[0].source.value if counted else None,
                "n_counted": sum(each.n_counted for each in counted),
                "n_heard": sum(each.n_heard for each in counted),
                "n_fitted": sum(each.n_fitted for each in counted),
                "uncounted_tokens": sum(each.uncounted_tokens for each in self._steps.values()),
            }
        )

    def _turn_to(self, phase: Phase) -> None:
        """Whatever is open is charged to the phase that ends."""
        assert self._machine is not None
        synchronise(self._machine.device)
        for each in (self._passes, self._steps.get(self._phase)):
            if each is not None:
                each.boundary()
        self._put_tokens()
        self._phase = phase
        if self._passes is not None:
            self._passes.during = phase.value

    def _report(self, tokens: float, executed: Executed) -> None:
        """What a pass did. Every process does the same."""
        assert self._meter is not None
        assert self._machine is not None
        n = self._machine.n_processes
        self._heard_tokens += tokens
        self._meter.add(self._phase, flops=n * executed.flops, bytes=n * executed.bytes)

    def _put_tokens(self) -> None:
        """Books the tokens that were heard of; lost work has none."""
        assert self._meter is not None
        assert self._machine is not None
        if self._heard_tokens and self._phase is not Phase.LOST:
            self._meter.add(self._phase, tokens=self._machine.n_processes * self._heard_tokens)
        self._heard_tokens = 0.0


def _phase(name: str) -> Phase:
    if name not in PHASES[Job.TRAINING]:
        raise RequestError(f"phase={name!r}: not a phase of training; those are {', '.join(PHASES[Job.TRAINING])}")
    return Phase(name)


def _planned_bill(plan: Planned, machine: LoopMachine, phase: Phase) -> Bill:
    chip_s = machine.n_chips * SECONDS_PER_HOUR * plan.hours
    energy = Energy(declared_j=chip_s * plan.watts_per_chip) if plan.watts_per_chip else Energy()
    used = PhaseUsage(tokens=plan.n_tokens, chip_s=chip_s, energy=energy)
    rates = machine.rates
    if plan.usd_per_chip_hour is not None:
        rates = at_user_price(plan.usd_per_chip_hour, as_of=rates.as_of)
    return price(Usage(job=Job.TRAINING, origin=Origin.PREDICTED, phases={phase: used}), rates)


def _machine_to_json(machine: LoopMachine) -> dict[str, Any]:
    return {
        "device": machine.device.name,
        "chip": machine.chip,
        "n_chips": machine.n_chips,
        "n_processes": machine.n_processes,
        "power_source": machine.power.name,
        "power_stamp": machine.power.stamp.value,
    }
