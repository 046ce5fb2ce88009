"""Many parallel plans at once: the columns of a table whose rows are plans.

Counting and timing are written once, over these columns; one plan is a table of one row. All columns are float
arrays of one length, so that products of degrees never overflow and nothing has to be converted on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.specs.parallel import ParallelSpec, Recompute, Zero

Column = NDArray[np.floating[Any]]


class Layouts(NamedTuple):
    """Columns as in ``ParallelSpec``, with what the batch makes of them."""

    dp: Column
    tp: Column
    pp: Column
    cp: Column
    ep: Column
    zero: Column
    shard: Column
    interleave: Column
    micro_batch: Column
    recompute: Column
    n_micro: Column
    """Micro-batches that one replica runs per step."""
    fp8: Column
    """1 where the layers' products run in fp8, else 0."""

    @property
    def n_chips(self) -> Column:
        """Chips of each plan."""
        return self.dp * self.tp * self.pp * self.cp

    @property
    def replicas(self) -> Column:
        """Ranks that hold the same part of the model."""
        return self.dp * self.cp

    def column(self, value: float) -> Column:
        """The same value for every plan."""
        return np.full_like(self.dp, value)

    def select(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Layouts:
        """The chosen rows."""
        return Layouts(*(column[chosen] for column in self))

    def spec(self, i: int) -> ParallelSpec:
        """Row ``i`` as a spec."""
        shard = int(self.shard[i])
        return ParallelSpec(
            dp=int(self.dp[i]),
            tp=int(self.tp[i]),
            pp=int(self.pp[i]),
            cp=int(self.cp[i]),
            ep=int(self.ep[i]),
            zero=Zero(int(self.zero[i])),
            shard=None if shard == int(self.replicas[i]) else shard,
            interleave=int(self.interleave[i]),
            micro_batch=int(self.micro_batch[i]),
            recompute=Recompute(int(self.recompute[i])),
        )


def layouts_of(plans: Sequence[ParallelSpec], *, global_batch: float, fp8: bool) -> Layouts:
    """The table of these plans. ``global_batch`` in sequences; a replica runs at least one micro-batch."""
    rows = [
        (
            p.dp,
            p.tp,
            p.pp,
            p.cp,
            p.ep,
            p.zero,
            p.shard or p.dp * p.cp,
            p.interleave,
            p.micro_batch,
            p.recompute,
            max(1.0, global_batch / (p.dp * p.micro_batch)),
            fp8,
        )
        for p in plans
    ]
    return Layouts(*np.array(rows, dtype=np.float64).T)
