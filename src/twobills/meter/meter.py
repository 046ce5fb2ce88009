"""The meter: every second from start to stop belongs to exactly one phase, and nothing is computed from a plan.

Time is read from a clock, joules from a power reader, and work (tokens, FLOPs, bytes) is what the caller reports
as executed. Between phases the meter runs on in the job's resting phase, so the phases add up to the whole time.
Thread-safe: a server's engine meters while another thread reads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from twobills.meter.clock import Clock, monotonic
from twobills.meter.power import PowerReader
from twobills.usage import Energy, Job, Origin, Phase, PhaseUsage, Usage


class Meter:
    """Accumulates one job's measured usage. ``resting`` is the phase that time outside any phase belongs to.

    ``age_s`` seconds before the meter was made count as resting, with the joules that ``power`` has of them.
    """

    def __init__(
        self,
        job: Job,
        *,
        n_chips: int,
        power: PowerReader,
        resting: Phase,
        clock: Clock = monotonic,
        age_s: float = 0.0,
    ) -> None:
        self._job, self._n_chips, self._power, self._clock = job, n_chips, power, clock
        self._resting = resting
        self._open: Phase | None = None
        self._lock = threading.Lock()
        self._total: dict[Phase, PhaseUsage] = {}
        self._untaken: dict[Phase, PhaseUsage] = {}
        self._last_s, self._last_j = clock() - age_s, 0.0 if age_s else power.read_j()

    def record(self, shares: Mapping[Phase, float], work: Mapping[Phase, PhaseUsage]) -> None:
        """Charges the time and joules since the last record to phases by ``shares`` (sum 1), and adds their work.

        ``work`` carries tokens, FLOPs and bytes as executed; its own chip-seconds and joules must be zero.
        """
        with self._lock:
            elapsed_s, joules = self._since_last()
            for phase in {**shares, **work}:
                share = shares.get(phase, 0.0)
                reading = PhaseUsage(
                    chip_s=elapsed_s * self._n_chips * share,
                    energy=Energy.of(joules * share, self._power.stamp),
                )
                self._add(phase, reading + work.get(phase, PhaseUsage()))

    def add(self, phase: Phase, *, tokens: float = 0.0, flops: float = 0.0, bytes: float = 0.0) -> None:
        """Adds executed work to a phase; reads neither clock nor power, so it can be called at every step."""
        with self._lock:
            self._add(phase, PhaseUsage(tokens=tokens, flops=flops, bytes=bytes))

    def rest(self) -> None:
        """Charges the time since the last record to the resting phase."""
        self.record({self._resting: 1.0}, {})

    def rest_in(self, phase: Phase) -> None:
        """From now on time outside any phase belongs to ``phase``."""
        self.rest()
        self._resting = phase

    def catch_up(self) -> None:
        """Charges the time since the last record to the phase that is open or resting, from whatever thread."""
        self.record({self._open or self._resting: 1.0}, {})

    def tick(self) -> None:
        """Charges the time since the last record to the phase that is open, from whatever thread; else does nothing."""
        phase = self._open
        if phase is not None:
            self.record({phase: 1.0}, {})

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[WorkTally]:
        """Charges the body's time to ``phase``; the tally collects what it executed. Kept even if the body fails.

        Phases nest: time in an inner one is the inner one's alone.
        """
        outer = self._open
        self.record({outer or self._resting: 1.0}, {})
        tally, self._open = WorkTally(), phase
        try:
            yield tally
        finally:
            self._open = outer
            self.record({phase: 1.0}, {phase: tally.work})

    def usage(self) -> Usage:
        """Everything measured until the last record."""
        with self._lock:
            return Usage(job=self._job, origin=Origin.MEASURED, phases=dict(self._total))

    def take(self) -> Usage:
        """What was measured since the last ``take``: the readings of a run add up to its usage."""
        with self._lock:
            taken, self._untaken = self._untaken, {}
            return Usage(job=self._job, origin=Origin.MEASURED, phases=taken)

    def untaken(self) -> Usage:
        """What the next ``take`` would return, as of the last record."""
        with self._lock:
            return Usage(job=self._job, origin=Origin.MEASURED, phases=dict(self._untaken))

    def put_back(self, taken: Usage) -> None:
        """Undoes a ``take`` whose reading could not be kept."""
        with self._lock:
            for phase, used in taken.phases.items():
                self._untaken[phase] = self._untaken.get(phase, PhaseUsage()) + used

    def _add(self, phase: Phase, reading: PhaseUsage) -> None:
        for totals in (self._total, self._untaken):
            totals[phase] = totals.get(phase, PhaseUsage()) + reading

    def _since_last(self) -> tuple[float, float]:
        now_s, now_j = self._clock(), self._power.read_j()
        elapsed_s, joules = now_s - self._last_s, now_j - self._last_j
        self._last_s, self._last_j = now_s, now_j
        return elapsed_s, joules


class WorkTally:
    """Work reported while a phase runs."""

    def __init__(self) -> None:
        self.work = PhaseUsage()

    def add(self, *, tokens: float, flops: float, bytes: float) -> None:
        """Adds executed work."""
        self.work = self.work + PhaseUsage(tokens=tokens, flops=flops, bytes=bytes)
