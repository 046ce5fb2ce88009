"""When a checkpoint is due, and what it remembers of the bill."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from twobills.flows.run_account import RunAccount
from twobills.jobs.training.checkpoint import Checkpoint, Checkpoints, check_identity
from twobills.jobs.training.loop import Trainer

MAX_COST_FRAC = 0.02
"""Of the time: the interval is stretched until writing takes no more."""


class Saver:
    """Writes the checkpoints of one run."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        trainer: Trainer,
        identity: dict[str, str],
        *,
        every_s: float,
        account: RunAccount,
    ) -> None:
        self._checkpoints, self._trainer, self._identity, self._every_s = checkpoints, trainer, identity, every_s
        self._account = account
        self._last_s = time.monotonic()
        self.cost_s, self.newest_step = 0.0, -1
        """What the last one took, and of which step it is."""

    def is_due(self) -> bool:
        """Whether the last one is long enough ago."""
        wait_s = max(self._every_s, self.cost_s * (1 - MAX_COST_FRAC) / MAX_COST_FRAC)
        return time.monotonic() - self._last_s >= wait_s

    def save(self) -> None:
        """Writes one of the step that the trainer has done; all that was metered until now belongs to it."""
        start_s = time.monotonic()
        notes = {**self._trainer.notes(), "n_readings": self._account.settled_readings(), "random": _random()}
        self._checkpoints.save(self._trainer.n_done, self._trainer.tensors(), identity=self._identity, notes=notes)
        self._last_s = time.monotonic()
        self.cost_s, self.newest_step = self._last_s - start_s, self._trainer.n_done

    def go_on_from(self, checkpoint: Checkpoint) -> None:
        """Puts the trainer where the checkpoint is. Raises CheckpointError if it is of something else."""
        check_identity(checkpoint, self._identity)
        self._checkpoints.load(checkpoint, self._trainer.tensors())
        self._trainer.go_on(checkpoint.step, checkpoint.notes)
        _set_random(checkpoint.notes["random"])
        self.newest_step = checkpoint.step
        self._last_s = time.monotonic()


def same_bits(checkpoint: Checkpoint) -> str:
    """Why what follows may differ in its last bits from a run that never stopped; empty if it will not."""
    then, now = checkpoint.notes["n_threads"], torch.get_num_threads()
    if then == now:
        return ""
    return f"Going on with {now} threads where there were {then}: the same sums in another order, other last bits"


def _random() -> dict[str, Any]:
    """Nothing draws from these during training; kept for what may one day."""
    numpy = dict(np.random.get_state(legacy=False))
    numpy["state"] = {"key": numpy["state"]["key"].tolist(), "pos": int(numpy["state"]["pos"])}
    return {"torch": torch.get_rng_state().numpy().tobytes().hex(), "numpy": numpy}


def _set_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(torch.frombuffer(bytearray.fromhex(state["torch"]), dtype=torch.uint8))
    numpy = state["numpy"]
    key = np.array(numpy["state"]["key"], np.uint32)
    np.random.set_state({**numpy, "state": {"key": key, "pos": numpy["state"]["pos"]}})
