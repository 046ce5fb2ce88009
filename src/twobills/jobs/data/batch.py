"""One global batch: what is read at every position, what should be predicted there, and which document it is in.

A batch is a function of the step alone, so a checkpoint keeps the data's position as a step, and every process cuts
its own rows from the same batch. B: sequences, T: tokens of each.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

IGNORED = -1
"""As a target: nothing is predicted here (padding; the prompt in fine-tuning)."""


class Batch(NamedTuple):
    """Sequences to learn from. All int64, (B, T), on the CPU."""

    inputs: Tensor
    targets: Tensor
    """The token after each input, or ``IGNORED``."""
    documents: Tensor | None = None
    """Numbers that differ where documents differ, growing along a row; None where every row is one document or
    documents may see each other."""

    @property
    def n_targets(self) -> int:
        """Tokens that are predicted."""
        return int((self.targets != IGNORED).sum())

    def rows(self, rank: int, n_processes: int) -> Batch:
        """The rows of one of ``n_processes``: contiguous shares in order, their sizes at most one apart."""
        n = len(self.inputs)
        first, last = n * rank // n_processes, n * (rank + 1) // n_processes
        documents = None if self.documents is None else self.documents[first:last]
        return Batch(self.inputs[first:last], self.targets[first:last], documents)
