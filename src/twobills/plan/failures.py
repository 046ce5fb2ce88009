"""What failures cost a large run: checkpoints, work done twice, restarts; and the interval that loses least.

Failures strike at random times (exponential, Daly 2006), at a rate in proportion to the chips, during restarts as
well; one stops the whole job, which goes back to the last checkpoint that storage holds. A checkpoint stops the run
for its ``stall_s`` and is safe ``latency_s`` after it began: writing in the background costs time only when a
failure comes before it ends (Vaidya 1997). Leaves out slow chips, planned maintenance (which can checkpoint first),
failures that hit several chips at once, and waiting for a spare machine beyond ``restart_s``.
Ref: J. Young, CACM 17(9), 1974; J. Daly, FGCS 22(3), 2006; N. Vaidya, IEEE Trans. Computers 46(8), 1997.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from twobills.errors import SpecError
from twobills.plan.interval import Interval
from twobills.specs.running import Running
from twobills.units import SECONDS_PER_DAY, show_seconds

MIN_GOODPUT_FRAC = 0.05
"""Below this a run is said to make no progress: nobody would let it go on."""
NO_PAUSE_S, FULL_PAUSES_S = SECONDS_PER_DAY, 2 * SECONDS_PER_DAY
"""A run of up to a day does not pause, one of two days or more pauses for its whole share; ours, no source has it."""


class Checkpoint(NamedTuple):
    """What one checkpoint of a run takes."""

    stall_s: float
    """For which the run stops."""
    latency_s: float
    """From its begin until storage holds it; equal to the stall where it is written synchronously."""
    load_s: float
    """To read it back."""


class Goodput(NamedTuple):
    """Where the expected wall time of a run goes, seconds; useful + checkpoint + lost + restart = wall."""

    mtbf_s: float
    """Of the whole job."""
    interval_s: float
    """Work between two checkpoints."""
    n_checkpoints: float
    n_failures: float
    useful_s: float
    checkpoint_s: float
    """The run standing still for checkpoints."""
    lost_s: float
    """Work done again, or cut off by a failure."""
    restart_s: float
    wall_s: float

    @property
    def goodput_frac(self) -> float:
        """Useful / wall time."""
        return self.useful_s / self.wall_s

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; a job that never fails has ``null`` for its time between failures."""
        mtbf_s = self.mtbf_s if math.isfinite(self.mtbf_s) else None
        return {**self._asdict(), "mtbf_s": mtbf_s, "goodput_frac": self.goodput_frac}


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingRun:
    """A run of so much useful work on chips that fail."""

    useful_s: float
    """Wall seconds that it would take if nothing failed and nothing were saved."""
    n_chips: int
    mtbf_chip_s: float
    checkpoint: Checkpoint
    restart_s: float
    """From a failure to training again, reading the checkpoint included."""
    interval_s: float | None = None
    """Work between checkpoints; None takes the best."""

    def __post_init__(self) -> None:
        stall_s, latency_s, _ = self.checkpoint
        for name, value in (("useful_s", self.useful_s), ("mtbf_chip_s", self.mtbf_chip_s), ("stall_s", stall_s)):
            if not value > 0:
                raise SpecError(f"{name}={value:g}: must be above 0")
        for name, value in (("useful_s", self.useful_s), ("latency_s", latency_s), ("restart_s", self.restart_s)):
            if math.isinf(value):
                raise SpecError(f"{name}={value:g}: must be a finite number")
        if self.n_chips < 1:
            raise SpecError(f"n_chips={self.n_chips}: must be at least 1")
        if not self.restart_s >= 0:
            raise SpecError(f"restart_s={self.restart_s:g}: must not be below 0")
        if not latency_s >= stall_s:
            raise SpecError(f"latency_s={latency_s:g}: must be at least the stall of {stall_s:g} s")
        if self.interval_s is not None and not self.interval_s >= max(latency_s - stall_s, 1e-9):
            raise SpecError(
                f"interval_s={self.interval_s:g}: the last checkpoint would not be written yet; "
                f"at least {latency_s - stall_s:g}"
            )


def checkpoint_of(state_bytes: float, n_chips: int, running: Running, *, asynchronous: bool = True) -> Checkpoint:
    """What a checkpoint of so many bytes takes, spread evenly over the chips.

    Asynchronous ones stop the run for a pause and the copy out of device memory, synchronous ones until storage has it.
    """
    if not 0 < state_bytes < math.inf:
        raise SpecError(f"state_bytes={state_bytes:g}: must be a number above 0")
    if n_chips < 1:
        raise SpecError(f"n_chips={n_chips}: must be at least 1")
    bytes_per_chip = state_bytes / n_chips
    copied_s = running.checkpoint_pause_s + bytes_per_chip / running.checkpoint_copy_bytes_per_s
    io_s = bytes_per_chip / running.checkpoint_write_bytes_per_s
    safe_s = copied_s + io_s
    return Checkpoint(stall_s=copied_s if asynchronous else safe_s, latency_s=safe_s, load_s=io_s)


def failing_run(
    useful_s: float,
    n_chips: int,
    state_bytes: float,
    running: Running,
    *,
    asynchronous: bool = True,
    interval_s: float | None = None,
) -> FailingRun:
    """A run under these operating figures, with ``state_bytes`` in each checkpoint."""
    checkpoint = checkpoint_of(state_bytes, n_chips, running, asynchronous=asynchronous)
    return FailingRun(
        useful_s=useful_s,
        n_chips=n_chips,
        mtbf_chip_s=running.mtbf_chip_s,
        checkpoint=checkpoint,
        restart_s=running.restart_s + checkpoint.load_s,
        interval_s=interval_s,
    )


def young_interval_s(stall_s: float, mtbf_s: float) -> float:
    """Work between checkpoints that loses least, s, to first order: sqrt(2 stall MTBF). Ref: Young 1974."""
    return math.sqrt(2 * stall_s * mtbf_s)


def daly_interval_s(stall_s: float, mtbf_s: float) -> float:
    """Work between checkpoints that loses least, s, to higher order.

    sqrt(2 d M) (1 + sqrt(d/2M)/3 + (d/2M)/9) - d for d < 2 M, else M. Ref: Daly 2006, equation 37.
    """
    if stall_s >= 2 * mtbf_s:
        return mtbf_s
    ratio = stall_s / (2 * mtbf_s)
    return young_interval_s(stall_s, mtbf_s) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - stall_s


def best_interval_s(stall_s: float, mtbf_s: float) -> float:
    """Work between checkpoints at which the expected wall time is least, s.

    The root u of u = 1 - exp(-(u + d/M)), u = interval / M, which Daly's series approximates (it jumps at d = 2 M):
    his value, then Newton's steps. Infinite for a job that never fails.
    """
    if math.isinf(mtbf_s):
        return math.inf
    d = stall_s / mtbf_s
    daly_s = daly_interval_s(stall_s, mtbf_s)
    if d < 1e-12:  # Newton's differences would be rounding; the series is exact here
        return daly_s
    u = daly_s / mtbf_s
    for _ in range(6):
        u -= (u + math.expm1(-(u + d))) / -math.expm1(-(u + d))
    return u * mtbf_s


def goodput(run: FailingRun) -> Goodput:
    """Where the expected wall time goes.

    M e^((R + L - d)/M) (e^((t + d)/M) - 1) T/t, with work T, interval t, stall d, latency L, restart R, time between
    failures M: Daly 2006's complete cost function, its restart prolonged by the work that L - d makes be done again
    (Vaidya 1997). Exact for exponential failures and whole intervals; the last interval counts in proportion.

    Raises SpecError where the run would make no progress.
    """
    stall_s, latency_s, _ = run.checkpoint
    mtbf_s = run.mtbf_chip_s / run.n_chips
    interval_s = _interval_s(run, mtbf_s)
    n_checkpoints = run.useful_s / interval_s
    checkpoint_s = n_checkpoints * stall_s
    if math.isinf(mtbf_s):
        wall_s, restart_s = run.useful_s + checkpoint_s, 0.0
    else:
        back_s = run.restart_s + latency_s - stall_s
        wall_s = n_checkpoints * _until_done_s(interval_s + stall_s, back_s, mtbf_s)
        # Failures are a Poisson process in wall time, and each starts a restart that lasts until done or hit again.
        restart_s = wall_s * -math.expm1(-run.restart_s / mtbf_s)
    # A run shorter than its one checkpoint is not held up by failures.
    if wall_s * MIN_GOODPUT_FRAC > run.useful_s and wall_s > 2 * (run.useful_s + checkpoint_s):
        raise SpecError(
            f"{run.n_chips} chips: a failure every {show_seconds(mtbf_s)} on average, so the run cannot make progress "
            f"(less than {MIN_GOODPUT_FRAC:.0%} of its time is useful); fewer chips, or a chip that fails less often "
            "(--mtbf-hours)"
        )
    return Goodput(
        mtbf_s=mtbf_s,
        interval_s=interval_s,
        n_checkpoints=n_checkpoints,
        n_failures=wall_s / mtbf_s,
        useful_s=run.useful_s,
        checkpoint_s=checkpoint_s,
        lost_s=max(0.0, wall_s - run.useful_s - checkpoint_s - restart_s),
        restart_s=restart_s,
        wall_s=wall_s,
    )


def pauses_s(wall_s: float, running: Running) -> float:
    """Rollbacks, debugging and waiting in a run that takes so long without them, s.

    The usual share of it from two days on, nothing up to one: nobody debugs a fine-tuning of some hours for a tenth of
    its time. In between it grows from one to the other.
    """
    ramp = (wall_s - NO_PAUSE_S) / (FULL_PAUSES_S - NO_PAUSE_S)
    return running.pauses_frac * wall_s * min(max(ramp, 0.0), 1.0)


def goodput_interval(run: FailingRun, mtbf_low_s: float, mtbf_high_s: float) -> Interval:
    """The goodput fraction, between those of the least and the most reliable chips that anybody reported.

    A range of sources rather than percentiles; a chip so unreliable that the run stands still counts as 0.
    """
    ends = (_goodput_frac(replace(run, mtbf_chip_s=mtbf_s)) for mtbf_s in (mtbf_low_s, mtbf_high_s))
    return Interval(goodput(run).goodput_frac, *ends)


def _goodput_frac(run: FailingRun) -> float:
    try:
        return goodput(run).goodput_frac
    except SpecError:
        return 0.0


def _interval_s(run: FailingRun, mtbf_s: float) -> float:
    if run.interval_s is not None:
        return min(run.interval_s, run.useful_s)
    stall_s, latency_s, _ = run.checkpoint
    # One checkpoint is written at a time, and the last one is taken at the end.
    return min(max(best_interval_s(stall_s, mtbf_s), latency_s - stall_s), run.useful_s)


def _until_done_s(segment_s: float, back_s: float, mtbf_s: float) -> float:
    try:
        return mtbf_s * math.exp(back_s / mtbf_s) * math.expm1(segment_s / mtbf_s)
    except OverflowError:
        return math.inf
