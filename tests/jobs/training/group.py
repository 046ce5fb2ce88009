"""A group of processes on this machine, and what each of them does in the tests: started with ``python -m``."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from tests.models import SMALL
from twobills.errors import GroupError, TwobillsError
from twobills.jobs.data.batch import Batch
from twobills.jobs.device import pick_device
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.checkpoint import Checkpoints
from twobills.jobs.training.leading import LeadingCheckpoints, LeadingStep, follow
from twobills.jobs.training.processes import Processes, joined
from twobills.jobs.training.step import TrainingStep
from twobills.specs.dtype import DType
from twobills.specs.training import TrainingSpec

N_STEPS, SAVED_AT = 8, 4
ROOT = Path(__file__).parents[3]


def spec_of(**change: Any) -> TrainingSpec:
    values = {"n_steps": N_STEPS, "batch_size": 8, "seq_len": 16, "dtype": DType.FP32, "heldout_tokens": 0, **change}
    return TrainingSpec(**values)


def batch_of(step: int) -> Batch:
    """Tokens that a network can learn to continue; some targets are not predicted, unevenly over the rows.

    In every other batch the rows hold two documents each.
    """
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(0, 50, (8, 1), generator=generator)
    tokens = (starts + 3 * torch.arange(17)) % 64
    targets = tokens[:, 1:].clone()
    targets[0, :9] = -1
    targets[7, 3:] = -1
    documents = (torch.arange(16) >= torch.arange(8)[:, None]).long() if step % 2 else None
    return Batch(tokens[:, :-1].contiguous(), targets, documents)


def network_of() -> Decoder:
    network = Decoder(SMALL)
    network.initialise(torch.Generator().manual_seed(0))
    return network


def curve(processes: Processes, asked: dict[str, Any]) -> dict[str, Any]:
    """Losses and norms of a run, from a checkpoint or from the beginning; ``save`` keeps one halfway."""
    spec, many = spec_of(**asked["spec"]), processes.n > 1
    step = LeadingStep(network_of(), spec, processes) if many else TrainingStep(network_of(), spec, pick_device())
    first = 0
    if "resume" in asked:
        checkpoints = checkpoints_in(asked["resume"], processes)
        found = checkpoints.newest(warn=lambda _: None)
        assert found
        checkpoints.load(found, step.state())
        step.refresh()
        first = found.step
    shown = []
    for i in range(first, N_STEPS):
        if i == SAVED_AT and "save" in asked:
            checkpoints_in(asked["save"], processes).save(i, step.state(), identity={}, notes={})
        shown.append(list(step(batch_of(i), lr_scale=1.0)))
    return {
        "steps": shown,
        "flops": step.flops,
        "refused": list(step(batch_of(0), lr_scale=1.0, accept=_refuse)),
        "after": list(step(batch_of(0), lr_scale=1.0)),
        "weights": step.whole().lm_head.weight[0].tolist(),
    }


def checkpoints_in(folder: str, processes: Processes) -> Checkpoints:
    return LeadingCheckpoints(Path(folder), processes) if processes.n > 1 else Checkpoints(Path(folder))


def _refuse(loss: float, norm: float) -> bool:
    del loss, norm
    return False


_STORES: list[TCPStore] = []
"""Of the groups that were started: as torchrun keeps one, so that it outlives every process."""


def start(n: int, *arguments: str, module: str = "tests.jobs.training.group") -> list[subprocess.Popen[str]]:
    """``n`` processes of a module, seated as torchrun would seat them."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    _STORES.append(store)
    common = {
        "WORLD_SIZE": n,
        "LOCAL_WORLD_SIZE": n,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": store.port,
        "TORCHELASTIC_USE_AGENT_STORE": True,
        "TORCHELASTIC_RESTART_COUNT": 0,
    }
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    started = []
    for rank in range(n):
        seat = {key: str(value) for key, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**os.environ, **seat, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def run(n: int, *asked: dict[str, Any]) -> list[Any]:
    """What process 0 of a group of ``n`` found for each of the curves."""
    processes = start(n, json.dumps(asked))
    try:
        done = [process.communicate(timeout=200) for process in processes]
    finally:
        end(processes)
    assert [process.returncode for process in processes] == [0] * n, [err for _, err in done]
    assert [out for out, _ in done[1:]] == [""] * (n - 1)
    return json.loads(done[0][0])  # type: ignore[no-any-return]


def end(processes: list[subprocess.Popen[str]]) -> None:
    """Leaves none behind."""
    for process in processes:
        process.kill()
        process.communicate()


def train_for_ever(timeout_s: float) -> None:
    """Steps until somebody is missing; process 0 says when they have begun."""
    with joined(timeout_s=timeout_s) as processes:
        if not processes.first:
            follow(processes)
            return
        step = LeadingStep(network_of(), spec_of(), processes)
        for i in itertools.count():
            step(batch_of(i), lr_scale=1.0)
            if i == 1:
                sys.stdout.write("begun\n")
                sys.stdout.flush()


def find_curves(asked: list[dict[str, Any]]) -> None:
    """Process 0 writes what was asked for."""
    with joined(timeout_s=60) as processes:
        if processes.first:
            sys.stdout.write(json.dumps([curve(processes, of) for of in asked]))
        else:
            follow(processes)


def main() -> None:
    """As the command line does: an error is a line, from the process that should show it."""
    try:
        if sys.argv[1] == "for ever":
            train_for_ever(float(sys.argv[2]))
        else:
            find_curves(json.loads(sys.argv[1]))
    except TwobillsError as error:
        if not isinstance(error, GroupError) or error.spoken:
            sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
