"""Every parallel plan that a model, a batch and a cluster allow, as one table; what the user fixed stays fixed.

Degrees divide what they split: tensor parallelism the heads and the fast links, pipeline stages at most one per layer,
experts whole, at least 4096 tokens per context-parallel rank, and chips = dp x tp x pp x cp. Micro-batches are powers
of two that divide a replica's share of the batch (given ones are taken as they are).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from twobills.counts.layouts import Layouts
from twobills.errors import SpecError
from twobills.specs.cluster import ClusterSpec
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import Recompute, Zero

MIN_TOKENS_PER_CONTEXT_RANK = 4096
MAX_MICRO_BATCH = 64
INTERLEAVES = (1, 2, 4, 6, 8)
TABLES_FIRST = ("tp", "pp", "cp", "ep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """What of a plan is given; None is free."""

    tp: int | None = None
    pp: int | None = None
    cp: int | None = None
    ep: int | None = None
    zero: Zero | None = None
    shard: int | None = None
    interleave: int | None = None
    micro_batch: float | None = None
    recompute: Recompute | None = None


class _Degrees(NamedTuple):
    tp: int
    pp: int
    cp: int
    ep: int
    dp: int


def layouts_for(
    model: ModelSpec, cluster: ClusterSpec, *, global_batch: float, seq_len: int, fixed: Fixed, fp8: Sequence[bool]
) -> Layouts:
    """The table of all plans. Raises SpecError, naming what stands in the way, if there is none."""
    rows: list[tuple[float, ...]] = []
    for degrees in _degrees(model, cluster, global_batch, seq_len, fixed):
        rows.extend(_variants(model, degrees, global_batch, fixed, fp8))
    if not rows:
        raise SpecError(_no_plan(model, cluster, global_batch, fixed))
    return Layouts(*np.array(rows, dtype=np.float64).T)


def check_fixed(model: ModelSpec, cluster: ClusterSpec, fixed: Fixed) -> None:
    """Raises SpecError, one line, for degrees that cannot be."""
    if fixed.tp is not None:
        if fixed.tp > max(cluster.chip.scaleup_chips or 1, 1):
            fast = f"the fast links of {cluster.chip.name} join {cluster.chip.scaleup_chips or 1} chips"
            raise SpecError(f"tp={fixed.tp}: wider than the fast links; {fast}")
        if model.n_heads % fixed.tp:
            raise SpecError(f"tp={fixed.tp}: does not divide n_heads={model.n_heads}")
    if fixed.pp is not None and fixed.pp > model.n_layers:
        raise SpecError(f"pp={fixed.pp}: more pipeline stages than n_layers={model.n_layers}")
    n_experts = model.moe.n_experts if model.moe else 1
    if fixed.ep is not None and n_experts % fixed.ep:
        raise SpecError(f"ep={fixed.ep}: does not divide the model's {n_experts} experts")
    degrees = (fixed.tp or 1) * (fixed.pp or 1) * (fixed.cp or 1)
    if cluster.n_chips % degrees:
        raise SpecError(f"tp x pp x cp = {degrees}: does not divide n_chips={cluster.n_chips}")


def _degrees(
    model: ModelSpec, cluster: ClusterSpec, global_batch: float, seq_len: int, fixed: Fixed
) -> Iterator[_Degrees]:
    check_fixed(model, cluster, fixed)
    n_chips = cluster.n_chips
    for tp, pp, cp in product(_tps(model, cluster, fixed), _pps(model, n_chips, fixed), _cps(n_chips, seq_len, fixed)):
        if n_chips % (tp * pp * cp):
            continue
        dp = n_chips // (tp * pp * cp)
        if dp > max(global_batch, 1):
            continue
        for ep in _eps(model, dp * cp, fixed):
            yield _Degrees(tp, pp, cp, ep, dp)


def _variants(
    model: ModelSpec, d: _Degrees, global_batch: float, fixed: Fixed, fp8: Sequence[bool]
) -> Iterator[tuple[float, ...]]:
    replicas = d.dp * d.cp
    share = max(global_batch / d.dp, 1.0)
    zeros = [fixed.zero] if fixed.zero is not None else _zeros(replicas, d.pp)
    for zero, micro, recompute, interleave, low in product(
        zeros,
        _micro_batches(share, fixed),
        [fixed.recompute] if fixed.recompute is not None else list(Recompute),
        _interleaves(model, d.pp, fixed),
        fp8,
    ):
        shard = min(fixed.shard or replicas, replicas)
        n_micro = max(share / micro, 1.0)
        if interleave > 1 and n_micro < d.pp:
            continue
        yield (d.dp, d.tp, d.pp, d.cp, d.ep, zero, shard, interleave, micro, recompute, n_micro, low)


def _tps(model: ModelSpec, cluster: ClusterSpec, fixed: Fixed) -> list[int]:
    if fixed.tp is not None:
        return [fixed.tp]
    return [tp for tp in _powers_of_two(cluster.n_fast) if model.n_heads % tp == 0 and cluster.n_chips % tp == 0]


def _pps(model: ModelSpec, n_chips: int, fixed: Fixed) -> list[int]:
    if fixed.pp is not None:
        return [fixed.pp]
    return [pp for pp in range(1, min(model.n_layers, n_chips, 64) + 1) if n_chips % pp == 0]


def _cps(n_chips: int, seq_len: int, fixed: Fixed) -> list[int]:
    if fixed.cp is not None:
        return [fixed.cp]
    most = max(seq_len // MIN_TOKENS_PER_CONTEXT_RANK, 1)
    return [cp for cp in _powers_of_two(most) if n_chips % cp == 0]


def _eps(model: ModelSpec, replicas: int, fixed: Fixed) -> list[int]:
    if model.moe is None:
        return [1]
    if fixed.ep is not None:
        return [fixed.ep] if replicas % fixed.ep == 0 else []
    return [ep for ep in _powers_of_two(model.moe.n_experts) if model.moe.n_experts % ep == 0 and replicas % ep == 0]


def _zeros(replicas: int, pp: int) -> list[Zero]:
    if replicas == 1:
        return [Zero.NOTHING]
    return [Zero.OPTIMISER] if pp > 1 else [Zero.OPTIMISER, Zero.PARAMETERS]


def _micro_batches(share: float, fixed: Fixed) -> list[float]:
    if fixed.micro_batch is not None:
        return [min(fixed.micro_batch, share)]
    most = int(min(share, MAX_MICRO_BATCH))
    return [float(m) for m in _powers_of_two(most) if share % m == 0] or [1.0]


def _interleaves(model: ModelSpec, pp: int, fixed: Fixed) -> list[int]:
    if pp == 1:
        return [1]
    if fixed.interleave is not None:
        return [fixed.interleave]
    return [v for v in INTERLEAVES if v * pp <= model.n_layers]


def _powers_of_two(most: int) -> list[int]:
    return [2**i for i in range(max(most, 1).bit_length())]


def _no_plan(model: ModelSpec, cluster: ClusterSpec, global_batch: float, fixed: Fixed) -> str:
    given = ", ".join(f"{n}={getattr(fixed, n)}" for n in TABLES_FIRST if getattr(fixed, n) is not None)
    of = f"{model.name} on {cluster.n_chips} x {cluster.chip.name} with {global_batch:g} sequences a step"
    return f"no parallel plan for {of}{' and ' + given if given else ''}; a larger batch or fewer chips would have one"
