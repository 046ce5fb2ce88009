"""``twobills train`` in a process of its own on a machine that is stated, killed where it is told to be.

    python train_and_die.py JOB.toml LEDGER [MODULE:NAME N]

The N-th call of that function ends with SIGKILL just after it returned.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.machines import RATES, machine
from twobills.flows import planned_job
from twobills.flows.listener import Listener
from twobills.flows.machine import FoundMachine, MeasuredMachine
from twobills.flows.run_folder import RunFolder
from twobills.flows.train import Begin, run_train
from twobills.jobs import device
from twobills.ledger.store import Ledger
from twobills.specs.dtype import DType
from twobills.specs.job import TrainingJob, read_job


def stated(found: FoundMachine, ledger: Ledger | None = None) -> MeasuredMachine:
    """In place of measuring: nothing is."""
    del ledger
    spec = replace(machine(flops=2e10, bandwidth=5e8, overhead_s=3e-5), n_chips=found.device.n_chips)
    return MeasuredMachine(found=replace(found, rates=RATES), spec=spec, dtype=DType.BF16)


def train(
    job: TrainingJob, ledger: Ledger, begin: Begin = Begin.RESUME, listener: Listener | None = None
) -> dict[str, Any]:
    """One process of ``twobills train``, on the stated machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planned_job, "measure_machine", stated)
        patch.setattr(device, "usable_cores", lambda: 1)  # two threads wait for each other where others work too
        with RunFolder(job.out).opened() as folder:
            return run_train(job, folder, ledger, listener or Listener(), begin)


def die_after(where: str, n: int) -> None:
    """Puts the kill where it is wanted."""
    module, _, path = where.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    real, calls = getattr(owner, name), iter(range(1, 1 << 30))

    def deadly(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        if next(calls) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        die_after(sys.argv[3], int(sys.argv[4]))
    train(read_job(Path(sys.argv[1])), Ledger(Path(sys.argv[2])))
