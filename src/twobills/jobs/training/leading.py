"""Process 0 leads and the others follow: it alone has the data, the clock, the budget, the ledger and the screen.

So whatever stands around a training step need not know that there are many processes: ``LeadingStep`` and
``LeadingCheckpoints`` are used as their likes for one process are, and tell the others what to do with them. The rows
of each batch are dealt out by process 0, in the order in which one process would read them; sending the tokens costs a
few bytes for each against millions of FLOPs.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from twobills.errors import GroupError
from twobills.jobs.data.batch import IGNORED, Batch
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.checkpoint import Checkpoint, Checkpoints, load
from twobills.jobs.training.processes import Processes
from twobills.jobs.training.sharded_step import ShardedStep, check_group
from twobills.jobs.training.step import Accept, StepResult
from twobills.specs.model import ModelSpec
from twobills.specs.training import TrainingSpec


class _Begin(NamedTuple):
    model: ModelSpec
    training: TrainingSpec


class _Learn(NamedTuple):
    n_rows: int
    n_targets: int
    with_documents: bool
    lr_scale: float
    judged: bool
    counted: bool


class _Save(NamedTuple):
    folder: Path
    step: int


class _Load(NamedTuple):
    checkpoint: Checkpoint


class _Gather(NamedTuple):
    pass


class LeadingStep:
    """``TrainingStep`` for many processes, used in process 0 alone."""

    def __init__(self, network: Decoder, spec: TrainingSpec, processes: Processes) -> None:
        self._processes = processes
        with processes.explained():
            check_group(
                processes.n,
                batch_size=spec.batch_size,
                accumulate=spec.accumulate,
                parallel=spec.parallel,
                compile=spec.compile,
            )
            processes.order(_Begin(network.spec, spec))
            self.step = ShardedStep(network, spec, processes)
        self.attend = self.step.attend
        self.flops = self.bytes = 0.0
        """Executed by one step in all processes together; known after the first."""
        self._whole: Decoder | None = None

    def __call__(self, batch: Batch, *, lr_scale: float, accept: Accept | None = None) -> StepResult:
        """Learns from the whole batch at ``lr_scale`` of the peak rates, unless ``accept`` refuses."""
        self._whole = None
        self._processes.use_cores(alone=False)
        order = _Learn(
            n_rows=len(batch.inputs),
            n_targets=batch.n_targets,
            with_documents=batch.documents is not None,
            lr_scale=lr_scale,
            judged=accept is not None,
            counted=not self.flops,
        )
        with self._processes.explained():
            self._processes.order(order)
            result = _learn(self.step, order, batch, accept)
        if order.counted:
            self.flops, self.bytes = self.step.flops, self.step.bytes
        return result

    def state(self) -> dict[str, Tensor]:
        """This process's part of all tensors that a resumed run needs, by name."""
        return self.step.state()

    def refresh(self) -> None:
        """Makes the working weights follow a loaded state; the others do it when they have loaded theirs."""
        self._whole = None
        self.step.refresh()

    def whole(self) -> Decoder:
        """The network in one piece, as it is now; until the next step this process may use all cores."""
        if self._whole is None:
            with self._processes.explained():
                self._processes.order(_Gather())
                self._whole = self.step.whole()
        assert self._whole
        self._processes.use_cores(alone=True)
        return self._whole


class LeadingCheckpoints(Checkpoints):
    """The checkpoints of a run of many processes, used in process 0 alone."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        super().__init__(folder)
        self._processes = processes

    def save(
        self, step: int, tensors: Mapping[str, Tensor], *, identity: Mapping[str, str], notes: Mapping[str, Any]
    ) -> None:
        """As for one process; every process writes its part."""
        with self._processes.explained():
            self._processes.order(_Save(self.folder, step))
            super().save(step, tensors, identity=identity, notes=notes)

    def load(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
        """As for one process; every process reads its part."""
        with self._processes.explained():
            self._processes.order(_Load(checkpoint._replace(notes={}, identity={})))
            load(checkpoint, tensors)


def follow(processes: Processes) -> None:
    """What every process but the first does, from beginning to end. Whether to stop is up to the first one."""
    for ask in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ask, signal.SIG_IGN)
    step: ShardedStep | None = None
    while (order := processes.next_order()) is not None:
        if isinstance(order, _Begin):
            processes.use_cores(alone=False)
            step = ShardedStep(Decoder(order.model), order.training, processes)
            continue
        assert step
        match order:
            case _Learn():
                _learn(step, order, None, _obeying)
            case _Save(folder, number):
                Checkpoints(folder).save(number, step.state(), identity={}, notes={})
            case _Load(checkpoint):
                load(checkpoint, step.state())
                step.refresh()
            case _Gather():
                step.whole()
            case _:
                raise GroupError(f"process {processes.rank} does not understand {order}")


def _obeying(loss: float, norm: float) -> bool:
    """Process 0 judges; its verdict overrules this one."""
    del loss, norm
    return False


def _learn(step: ShardedStep, order: _Learn, batch: Batch | None, accept: Accept | None) -> StepResult:
    """One step: in process 0 with the whole ``batch``, elsewhere with what it deals out."""
    processes = step.processes

    def judge(loss: float, norm: float) -> bool:
        return processes.decided_by_first(bool(accept and accept(loss, norm)))

    return step.learn(
        _dealt(step, order, batch),
        order.n_targets,
        lr_scale=order.lr_scale,
        accept=judge if order.judged else None,
        count=order.counted,
    )


def _dealt(step: ShardedStep, order: _Learn, batch: Batch | None) -> Batch:
    """This process's rows. All get equally many, the last of some being empty ones that are dropped again."""
    n, rank = step.processes.n, step.processes.rank
    counts = [order.n_rows * (i + 1) // n - order.n_rows * i // n for i in range(n)]
    width = step.spec.seq_len
    like = torch.empty(3 if order.with_documents else 2, max(counts), width, dtype=torch.int32)
    parts = None if batch is None else [_packed(batch.rows(i, n), like) for i in range(n)]
    mine = step.processes.dealt_by_first(parts, like)[:, : counts[rank]].long()
    return Batch(mine[0], mine[1], mine[2] if order.with_documents else None)


def _packed(rows: Batch, like: Tensor) -> Tensor:
    packed = torch.full_like(like, IGNORED)
    columns = [rows.inputs, rows.targets, *([] if rows.documents is None else [rows.documents])]
    packed[:, : len(rows.inputs)] = torch.stack(columns)
    return packed
