"""The best ways to train a model on offered chips: every valid plan timed, priced and ranked, and the Pareto front.

Three things are wanted at once: little time, few dollars, much memory to spare. On one cluster dollars go with time,
so its front is of time and memory; over several clusters all three count. Plans are looked at in blocks of rows
that stay in a core's cache. Evaluation, failures, checkpoints and pauses lengthen every plan of a cluster by one
factor, that of its fastest plan. Intervals are of the step's forecast alone; how far whole runs end from forecasts,
and the power bill, are left to ``plan.training``.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.counts.flops import train_flops_per_token
from twobills.counts.layouts import Layouts
from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.perf.achieved import Achieved
from twobills.plan.evaluate import Evaluated, evaluate
from twobills.plan.failures import failing_run, goodput, pauses_s
from twobills.plan.interval import Interval, Spread, combined
from twobills.plan.pareto import Values, undominated, undominated_of_two
from twobills.plan.space import EVERY, Fixed, layouts_for
from twobills.plan.training import CHECKPOINT_BYTES_PER_PARAM
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import ParallelSpec
from twobills.specs.running import Running
from twobills.units import TERA, show_bytes

BLOCK_ROWS = 4096


class Objective(StrEnum):
    """What the ranking goes by; ties go to what spares more memory."""

    TIME = "time"
    DOLLARS = "dollars"
    MEMORY = "memory"


class Offer(NamedTuple):
    """Chips that the model may be trained on."""

    cluster: ClusterSpec
    rates: Achieved
    hours: Spread
    """How far a run's hours may end from the forecast."""
    usd_per_chip_s: float
    dtypes: tuple[DType, ...]
    """Formats to look at: bf16, fp8."""
    speed_assumed: str | None = None
    """In words, what stands in for a speed that was not fitted."""
    price_assumed: str | None = None
    """In words, where a price comes from that nobody asks."""


class Job(NamedTuple):
    """What is to be trained."""

    model: ModelSpec
    n_tokens: float
    seq_len: int
    global_batch: int
    fixed: Fixed
    running: Running


class FoundPlan(NamedTuple):
    """One plan on one of the offers."""

    offer: Offer
    spec: ParallelSpec
    dtype: DType
    n_micro: float
    step_s: float
    compute_frac: float
    """Of the step; the rest are the three that follow."""
    exposed_frac: float
    bubble_frac: float
    straggling_frac: float
    tokens_per_s: float
    mfu: float
    wall_s: Interval
    """Of the run, failures included."""
    usd: Interval
    usd_per_ttoken: Interval
    """For a trillion tokens."""
    memory_bytes: float
    spare_bytes: float
    spare_frac: float
    """Of the chip's memory."""


class Refused(NamedTuple):
    """An offer without a plan."""

    cluster: ClusterSpec
    reason: str


class SearchResult(NamedTuple):
    """What was found, best first."""

    best: tuple[FoundPlan, ...]
    """The best plan of each offer."""
    ranking: tuple[FoundPlan, ...]
    """The best plans that differ in chips, degrees of parallelism or format."""
    front: tuple[FoundPlan, ...]
    """Plans that no other beats in time, dollars and memory at once, the fastest first."""
    refused: tuple[Refused, ...]
    n_plans: int
    n_fit: int


class _Scanned(NamedTuple):
    """An offer's plans that fit."""

    offer: Offer
    layouts: Layouts
    costs: Values
    """(n, 3): wall seconds, dollars of the run, minus the spared share of memory."""
    wall_factor: float
    n_plans: int


def search_training(
    job: Job, offers: Sequence[Offer], *, objective: Objective, top: int, max_wall_s: float | None = None
) -> SearchResult:
    """Every plan of every offer. Plans above ``max_wall_s`` are not ranked, unless all are.

    Raises SpecError if no offer has a plan that fits, with each one's reason.
    """
    if job.seq_len > job.model.max_seq_len:
        raise SpecError(f"seq_len={job.seq_len}: {job.model.name} has positions for {job.model.max_seq_len}")
    scans, refused = [], []
    for offer in offers:
        try:
            scans.append(_scan(job, offer))
        except SpecError as error:
            refused.append(Refused(offer.cluster, str(error)))
    if not scans:
        raise SpecError("; ".join(dict.fromkeys(each.reason for each in refused)))
    ranked = scans if max_wall_s is None else _within(scans, max_wall_s) or scans
    ordered = [_ordered(scan.costs, objective) for scan in ranked]
    best = [(i, int(rows[0])) for i, rows in enumerate(ordered)]
    different = [(i, int(row)) for i, rows in enumerate(ordered) for row in _different(ranked[i], rows)[:top]]
    return SearchResult(
        best=_found(job, ranked, _sorted(ranked, best, objective)),
        ranking=_found(job, ranked, _sorted(ranked, different, objective)[:top]),
        front=_found(job, ranked, _front(ranked)),
        refused=tuple(refused),
        n_plans=sum(scan.n_plans for scan in scans),
        n_fit=sum(len(scan.costs) for scan in scans),
    )


def timed(model: ModelSpec, layouts: Layouts, offer: Offer, seq_len: int) -> tuple[Values, Values]:
    """Seconds of a step and spare bytes of a chip, of every plan."""
    n = len(layouts.dp)
    seconds, spare = np.empty(n), np.empty(n)
    for start in range(0, n, BLOCK_ROWS):
        block = slice(start, min(start + BLOCK_ROWS, n))
        found = _evaluated(model, Layouts(*(column[block] for column in layouts)), offer, seq_len)
        seconds[block], spare[block] = found.time.seconds, found.spare_bytes
    return seconds, spare


def _scan(job: Job, offer: Offer) -> _Scanned:
    offer.cluster.check_links()
    layouts = layouts_for(
        job.model,
        offer.cluster,
        global_batch=job.global_batch,
        seq_len=job.seq_len,
        fixed=job.fixed,
        fp8=[dtype is DType.FP8 for dtype in offer.dtypes],
        breadth=EVERY,
    )
    seconds, spare = timed(job.model, layouts, offer, job.seq_len)
    fits = spare >= 0
    if not fits.any():
        name = f"{job.model.name} on {offer.cluster.n_chips} x {offer.cluster.chip.name}"
        raise SpecError(
            f"{name}: none of {len(fits)} plans fits, the nearest lacks {show_bytes(float(-spare.max()))} a chip; "
            "more chips, or ones with more memory"
        )
    wall_s = seconds[fits] * job.n_tokens / (job.global_batch * job.seq_len)
    factor = _wall_factor(job, offer, float(wall_s.min()))
    wall_s = wall_s * factor
    usd = wall_s * offer.cluster.n_chips * offer.usd_per_chip_s
    spare_frac = spare[fits] / offer.cluster.memory_bytes
    return _Scanned(offer, layouts.select(fits), np.stack([wall_s, usd, -spare_frac], axis=1), factor, len(fits))


def _evaluated(model: ModelSpec, layouts: Layouts, offer: Offer, seq_len: int) -> Evaluated:
    return evaluate(model, layouts, offer.rates, seq_len=seq_len, memory_bytes=offer.cluster.memory_bytes)


def _wall_factor(job: Job, offer: Offer, useful_s: float) -> float:
    """Wall time of a run with evaluation, failures and pauses over its pure time, as in ``plan.training``."""
    evaluated_s = useful_s * (1 + job.running.evaluation_frac)
    state_bytes = CHECKPOINT_BYTES_PER_PARAM * count_params(job.model).total
    run = failing_run(evaluated_s, offer.cluster.n_chips, state_bytes, job.running)
    wall_s = goodput(run).wall_s
    return (wall_s + pauses_s(wall_s, job.running)) / useful_s


def _within(scans: Sequence[_Scanned], max_wall_s: float) -> list[_Scanned]:
    """What ends in time; offers of which nothing does are dropped."""
    kept = [(scan, scan.costs[:, 0] <= max_wall_s) for scan in scans]
    return [s._replace(layouts=s.layouts.select(rows), costs=s.costs[rows]) for s, rows in kept if rows.any()]


def _ordered(costs: Values, objective: Objective) -> NDArray[np.intp]:
    """Rows, best first."""
    time, dollars, memory = costs.T
    keys = {
        Objective.TIME: (dollars, memory, time),
        Objective.DOLLARS: (time, memory, dollars),
        Objective.MEMORY: (dollars, time, memory),
    }
    order: NDArray[np.intp] = np.lexsort(keys[objective])
    return order


def _different(scan: _Scanned, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """The first of these rows for each set of degrees and format."""
    layouts = scan.layouts
    kinds = np.stack([layouts.tp, layouts.pp, layouts.cp, layouts.ep, layouts.fp8], axis=1)[rows]
    _, first = np.unique(kinds, axis=0, return_index=True)
    chosen: NDArray[np.intp] = rows[np.sort(first)]
    return chosen


def _sorted(scans: Sequence[_Scanned], chosen: list[tuple[int, int]], objective: Objective) -> list[tuple[int, int]]:
    costs = np.array([scans[i].costs[row] for i, row in chosen])
    return [chosen[k] for k in _ordered(costs, objective)]


def _front(scans: Sequence[_Scanned]) -> list[tuple[int, int]]:
    """Each offer's own front first (its dollars go with time), then all of them against each other."""
    chosen = [(i, int(row)) for i, scan in enumerate(scans) for row in undominated_of_two(*scan.costs[:, [0, 2]].T)]
    costs = np.array([scans[i].costs[row] for i, row in chosen])
    kept = np.flatnonzero(undominated(costs))
    return [chosen[k] for k in kept[_ordered(costs[kept], Objective.TIME)]]


def _found(job: Job, scans: Sequence[_Scanned], chosen: Sequence[tuple[int, int]]) -> tuple[FoundPlan, ...]:
    """The chosen rows with all that is shown of them, each offer's in one table."""
    plans: dict[tuple[int, int], FoundPlan] = {}
    for i, scan in enumerate(scans):
        rows = [row for of, row in chosen if of == i]
        if rows:
            table = _evaluated(job.model, scan.layouts.select(np.array(rows)), scan.offer, job.seq_len)
            plans |= {(i, row): _plan(job, scan, table, k) for k, row in enumerate(rows)}
    return tuple(plans[key] for key in chosen)


def _plan(job: Job, scan: _Scanned, table: Evaluated, k: int) -> FoundPlan:
    offer, cluster = scan.offer, scan.offer.cluster
    seconds, *parts = (float(column[k]) for column in table.time)
    compute, exposed, bubble, straggling = (part / seconds for part in parts)
    tokens_per_s = job.global_batch * job.seq_len / seconds
    wall_s = job.n_tokens / tokens_per_s * scan.wall_factor
    usd = wall_s * cluster.n_chips * offer.usd_per_chip_s
    peak = float(offer.rates.peak_flops_per_s) * cluster.n_chips
    spare = float(table.spare_bytes[k])
    return FoundPlan(
        offer=offer,
        spec=table.layouts.spec(k),
        dtype=DType.FP8 if table.layouts.fp8[k] else DType.BF16,
        n_micro=float(table.layouts.n_micro[k]),
        step_s=seconds,
        compute_frac=compute,
        exposed_frac=exposed,
        bubble_frac=bubble,
        straggling_frac=straggling,
        tokens_per_s=tokens_per_s,
        mfu=train_flops_per_token(job.model, job.seq_len) * tokens_per_s / peak,
        wall_s=combined(wall_s, offer.hours),
        usd=combined(usd, offer.hours),
        usd_per_ttoken=combined(usd / job.n_tokens * TERA, offer.hours),
        memory_bytes=float(table.memory.total[k]),
        spare_bytes=spare,
        spare_frac=spare / cluster.memory_bytes,
    )
