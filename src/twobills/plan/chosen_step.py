"""One step of a run: the parallel plan that is fastest and fits, and what would fit where none does.

In distillation the teacher runs forward over each step's tokens before the student does, on the same chips; both
lie in memory together, each under its own plan, and the pair is chosen that takes least time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from twobills.counts.layers import SplitBy, layer_kinds
from twobills.counts.params import count_params
from twobills.counts.sharded_step import Passes
from twobills.errors import SpecError
from twobills.perf.achieved import Achieved, achieved
from twobills.plan.evaluate import Evaluated, evaluate, fastest
from twobills.plan.space import Fixed, layouts_for
from twobills.specs.calibration import Calibration
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import ParallelSpec, Recompute
from twobills.specs.run import JobKind, TrainingRun
from twobills.units import show_bytes

MOST_CHIPS_FACTOR = 256
"""How many times the chips are tried where a run does not fit."""


class ChosenStep(NamedTuple):
    """One optimiser step under the plan that was chosen; tables of one row."""

    student: Evaluated
    teacher: Evaluated | None
    rates: Achieved
    passes: Passes
    adapted: float
    """Share of the parameters that is trained, if adapters are; else 1."""
    n_plans: int
    """That were looked at, of the trained model."""

    @property
    def seconds(self) -> float:
        """Of one step, a teacher's pass included."""
        return float(self.student.time.seconds[0]) + self.teacher_s

    @property
    def teacher_s(self) -> float:
        """Of a teacher's pass over one step's tokens; 0 without one."""
        return float(self.teacher.time.seconds[0]) if self.teacher else 0.0

    @property
    def plan(self) -> ParallelSpec:
        """The trained model's parallel plan."""
        return self.student.layouts.spec(0)

    @property
    def spare_bytes(self) -> float:
        """Memory of a chip that is left."""
        held = float(self.teacher.memory.total[0]) if self.teacher else 0.0
        return float(self.student.spare_bytes[0]) - held


class Asked(NamedTuple):
    """Everything that a step depends on."""

    model: ModelSpec
    run: TrainingRun
    cluster: ClusterSpec
    fixed: Fixed
    dp: int | None
    """Copies of the model, if they are given."""
    calibration: Calibration


def chosen_step(asked: Asked) -> ChosenStep:
    """The fastest step that fits. Raises SpecError: what contradicts itself, or by how much nothing fits."""
    model, run, cluster, fixed, *_ = asked
    if run.seq_len > model.max_seq_len:
        raise SpecError(f"seq_len={run.seq_len}: {model.name} has positions for {model.max_seq_len}")
    cluster.peak(run.dtype)
    cluster.check_links()
    _check_replicas(run, cluster, fixed, asked.dp)
    students = _students(asked)
    if run.teacher is None:
        i = fastest(students)
        if not students.fits[i]:
            raise SpecError(_does_not_fit(asked, students, i))
        return _chosen(asked, students, i)
    teachers = _teachers(asked, run.teacher)
    pair = _fastest_pair(students, teachers)
    if pair is None:
        raise SpecError(_does_not_fit_together(asked, students, teachers))
    return _chosen(asked, students, pair[0], _one(teachers, pair[1], asked, run.teacher))


def passes_of(run: TrainingRun) -> Passes:
    """What is done with the trained model's micro-batches."""
    return Passes.ADAPT if run.job is JobKind.LORA else Passes.TRAIN


def adapted_share(model: ModelSpec, rank: int | None) -> float:
    """Parameters of low-rank adapters over the model's: rank x (rows + columns) of each matrix but routers; 1 for None.

    Ref: Hu et al. 2021, arXiv:2106.09685, on all linear layers as in QLoRA (arXiv:2305.14314).
    """
    if rank is None:
        return 1.0
    adapters = sum(
        kind.n_layers * p.n_stored * rank * (p.rows + p.columns)
        for kind in layer_kinds(model)
        for p in kind.projections
        if p.split_by is not SplitBy.NONE
    )
    return adapters / count_params(model).total


def _students(asked: Asked) -> Evaluated:
    model, run, cluster, fixed, dp, calibration = asked
    layouts = layouts_for(
        model,
        cluster,
        global_batch=run.global_batch,
        seq_len=run.seq_len,
        fixed=fixed,
        fp8=[run.dtype is DType.FP8],
    )
    if dp is not None:
        wanted = layouts.dp == dp
        if not wanted.any():
            there = ", ".join(f"{n:g}" for n in np.unique(layouts.dp)[:12])
            raise SpecError(f"dp={dp}: no plan of {model.name} on {cluster.n_chips} chips has it; possible are {there}")
        layouts = layouts.select(wanted)
    return evaluate(
        model,
        layouts,
        achieved(cluster, run.stack, calibration),
        seq_len=run.seq_len,
        memory_bytes=cluster.memory_bytes,
        passes=passes_of(run),
        adapted=adapted_share(model, run.lora_rank),
    )


def _teachers(asked: Asked, teacher: ModelSpec) -> Evaluated:
    run, cluster = asked.run, asked.cluster
    if run.seq_len > teacher.max_seq_len:
        raise SpecError(f"seq_len={run.seq_len}: the teacher {teacher.name} has positions for {teacher.max_seq_len}")
    layouts = layouts_for(
        teacher,
        cluster,
        global_batch=run.global_batch,
        seq_len=run.seq_len,
        fixed=Fixed(recompute=Recompute.NONE),
        fp8=[run.dtype is DType.FP8],
    )
    return evaluate(
        teacher,
        layouts,
        achieved(cluster, run.stack, asked.calibration),
        seq_len=run.seq_len,
        memory_bytes=cluster.memory_bytes,
        passes=Passes.FORWARD,
    )


def _fastest_pair(students: Evaluated, teachers: Evaluated) -> tuple[int, int] | None:
    """Rows that fit into memory together and take least time: of teachers by memory, the fastest so far."""
    order = np.argsort(teachers.memory.total, kind="stable")
    held, seconds = teachers.memory.total[order], teachers.time.seconds[order]
    best = np.minimum.accumulate(seconds)
    row_of_best = np.maximum.accumulate(np.where(seconds == best, np.arange(len(best)), 0))
    last = np.searchsorted(held, students.spare_bytes, side="right") - 1
    together = np.where(last >= 0, students.time.seconds + best[last], np.inf)
    i = int(np.argmin(together))
    return (i, int(order[row_of_best[last[i]]])) if np.isfinite(together[i]) else None


def _chosen(asked: Asked, students: Evaluated, i: int, teacher: Evaluated | None = None) -> ChosenStep:
    passes, adapted = passes_of(asked.run), adapted_share(asked.model, asked.run.lora_rank)
    return ChosenStep(
        student=_one(students, i, asked, asked.model, passes, adapted),
        teacher=teacher,
        rates=achieved(asked.cluster, asked.run.stack, asked.calibration),
        passes=passes,
        adapted=adapted,
        n_plans=len(students.layouts.dp),
    )


def _one(
    table: Evaluated, i: int, asked: Asked, model: ModelSpec, passes: Passes = Passes.FORWARD, adapted: float = 1.0
) -> Evaluated:
    return evaluate(
        model,
        table.layouts.select(np.array([i])),
        achieved(asked.cluster, asked.run.stack, asked.calibration),
        seq_len=asked.run.seq_len,
        memory_bytes=asked.cluster.memory_bytes,
        passes=passes,
        adapted=adapted,
    )


def _check_replicas(run: TrainingRun, cluster: ClusterSpec, fixed: Fixed, dp: int | None) -> None:
    """One line where what is given leaves more copies of the model than the batch has sequences."""
    if dp is not None and (dp < 1 or cluster.n_chips % dp):
        raise SpecError(f"dp={dp}: must divide n_chips={cluster.n_chips}")
    degrees = (fixed.tp, fixed.pp, fixed.cp)
    if dp is None and None not in degrees:
        dp = cluster.n_chips // int(np.prod([d or 1 for d in degrees]))
    if dp is not None and dp > run.global_batch:
        raise SpecError(
            f"global_batch={run.global_batch}: smaller than dp={dp}, so some copies of the model would have no "
            f"sequence; a batch of at least {dp}"
        )


def _does_not_fit(asked: Asked, table: Evaluated, i: int) -> str:
    plan, needed = table.layouts.spec(i), float(table.memory.total[i])
    job = f"{asked.model.name} on {asked.cluster.n_chips} x {asked.cluster.chip.name}"
    lacks = f"does not fit: the plan that needs least ({plan.describe()}) takes {show_bytes(needed)} of a chip"
    return f"{job} {lacks} and lacks {show_bytes(-float(table.spare_bytes[i]))}; {_what_would_fit(asked)}"


def _does_not_fit_together(asked: Asked, students: Evaluated, teachers: Evaluated) -> str:
    lacks = float(np.min(teachers.memory.total) - np.max(students.spare_bytes))
    teacher = asked.run.teacher.name if asked.run.teacher else ""
    job = f"{asked.model.name} with its teacher {teacher} on {asked.cluster.n_chips} x {asked.cluster.chip.name}"
    return f"{job} does not fit: a chip lacks {show_bytes(lacks)}; more chips or a smaller teacher"


def _what_would_fit(asked: Asked) -> str:
    found = [words for words, other in _others(asked) if _fits(other)]
    if more := next((other for other in _more_chips(asked) if _fits(other)), None):
        found.append(f"{more.cluster.n_chips} chips")
    return f"what would fit: {', or '.join(found)}" if found else "a smaller model or chips with more memory"


def _others(asked: Asked) -> Iterator[tuple[str, Asked]]:
    """The same run with one thing changed that was given."""
    fixed = asked.fixed
    if fixed.recompute not in (None, Recompute.FULL):
        yield "full recomputation", asked._replace(fixed=replace(fixed, recompute=Recompute.FULL))
    if fixed.micro_batch is not None and fixed.micro_batch > 1:
        yield "a micro-batch of 1", asked._replace(fixed=replace(fixed, micro_batch=1))
    if fixed != Fixed() or asked.dp is not None:
        yield "another parallel plan (leave it free)", asked._replace(fixed=Fixed(), dp=None)
    if asked.run.seq_len > 1:
        shorter = replace(asked.run, seq_len=max(1, asked.run.seq_len // 4), global_batch=4 * asked.run.global_batch)
        yield f"sequences of {shorter.seq_len} tokens", asked._replace(run=shorter)


def _more_chips(asked: Asked) -> Iterator[Asked]:
    factor = 2
    while factor <= MOST_CHIPS_FACTOR:
        yield asked._replace(
            cluster=replace(asked.cluster, n_chips=factor * asked.cluster.n_chips), fixed=Fixed(), dp=None
        )
        factor *= 2


def _fits(asked: Asked) -> bool:
    try:
        return bool(_students(asked).fits.any())
    except SpecError:
        return False
