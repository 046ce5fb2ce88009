"""Every parallel plan that a model, a batch and a cluster allow, as one table; what the user fixed stays fixed.

A plan is valid if its degrees divide what they split: chips = dp x tp x pp x cp exactly; tensor parallelism the heads,
the widths of the MLPs, a context-parallel rank's tokens and the fast domain (with fewer key-value heads than ranks,
each is held by several); pipeline pieces at most one per layer (stages may differ by one layer); whole experts on each
rank; at least 4096 tokens per context-parallel rank, in two equal parts (so that causal work is even). Interleaving
needs equal pieces, embedding and head counting as a layer each if they must, and as many micro-batches as stages
(Llama 3, arXiv:2407.21783, section 3.3.2: 126 layers as 128, and any number of micro-batches from there on).
ZeRO-2 is left out where gradients are accumulated: each micro-batch would scatter them, which is ZeRO-3's traffic
without its memory. Tables are built by array operations: a column for each choice, every row with every value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from twobills.counts.layers import Projection, SplitBy, layer_kinds
from twobills.counts.layouts import Column, Layouts
from twobills.errors import SpecError
from twobills.specs.cluster import ClusterSpec
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import Recompute, Zero

MIN_TOKENS_PER_CONTEXT_RANK = 4096
MAX_MICRO_BATCH = 64
MAX_STAGES = 64
NAMED = ("tp", "pp", "cp", "ep", "zero", "shard", "interleave", "micro_batch")
"""What a message names of what was given."""
Table = Mapping[str, Column]


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


class Breadth(NamedTuple):
    """How many of the valid plans are looked at."""

    zeros: tuple[Zero, ...]
    sharded_stages: bool
    """Whether the parameters of pipeline stages may be sharded."""
    fast_shards: bool
    """Whether copies may be shared out within one fast domain, not only among all (HSDP)."""
    interleaves: tuple[int, ...]
    whole_batches: bool
    """Whether the batch must divide; else replicas may run a fractional mean number of micro-batches."""


USUAL = Breadth((Zero.OPTIMISER, Zero.PARAMETERS), False, False, (1, 2, 4, 6, 8), False)
"""What training engines are usually set to."""
EVERY = Breadth(tuple(Zero), True, True, tuple(range(1, 9)), True)


def layouts_for(
    model: ModelSpec,
    cluster: ClusterSpec,
    *,
    global_batch: float,
    seq_len: int,
    fixed: Fixed,
    fp8: Sequence[bool],
    breadth: Breadth = USUAL,
) -> Layouts:
    """The table of all plans. Raises SpecError, naming what stands in the way, if there is none."""
    check_fixed(model, cluster, fixed)
    degrees = _degrees(model, cluster, global_batch, seq_len, fixed)
    shared = _sharded(_micro_batched(degrees, global_batch, fixed, breadth), cluster, fixed, breadth)
    table = _interleaved(shared, model, fixed, breadth)
    table = _cross(table, recompute=list(Recompute) if fixed.recompute is None else [fixed.recompute])
    table = _cross(table, fp8=sorted(set(fp8)))
    if not len(table["dp"]):
        raise SpecError(_no_plan(model, cluster, global_batch, fixed))
    return Layouts(**{name: table[name] for name in Layouts._fields})


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
    if (fixed.interleave or 1) > 1 and fixed.pp == 1:
        raise SpecError(f"interleave={fixed.interleave}: needs pipeline stages, and pp=1; leave one of the two free")
    if (fixed.interleave or 1) * (fixed.pp or 1) > model.n_layers:
        raise SpecError(f"interleave={fixed.interleave}: more pieces than n_layers={model.n_layers}")
    n_experts = model.moe.n_experts if model.moe else 1
    if fixed.ep is not None and n_experts % fixed.ep:
        raise SpecError(f"ep={fixed.ep}: does not divide the model's {n_experts} experts")
    degrees = (fixed.tp or 1) * (fixed.pp or 1) * (fixed.cp or 1)
    if cluster.n_chips % degrees:
        raise SpecError(f"tp x pp x cp = {degrees}: does not divide n_chips={cluster.n_chips}")
    _check_shard(cluster, fixed)


def tensor_degrees(model: ModelSpec, cluster: ClusterSpec) -> list[int]:
    """Valid degrees of tensor parallelism."""
    split = [p for kind in layer_kinds(model) for p in kind.projections if p.split_by is not SplitBy.NONE]
    return [
        tp
        for tp in range(1, min(cluster.n_fast, model.n_heads) + 1)
        if model.n_heads % tp == 0 and cluster.n_fast % tp == 0 and cluster.n_chips % tp == 0
        if all(_divides(tp, projection) for projection in split)
    ]


def _check_shard(cluster: ClusterSpec, fixed: Fixed) -> None:
    if fixed.shard is None:
        return
    if fixed.zero is Zero.NOTHING:
        raise SpecError(f"shard={fixed.shard}: zero=0 shares out nothing; zero 1, 2 or 3 does")
    given = [(name, n) for name, n in (("tp", fixed.tp), ("pp", fixed.pp)) if n]
    ranks = cluster.n_chips
    for _, n in given:
        ranks //= n
    if ranks % fixed.shard:
        left = "".join(f" / {name}={n}" for name, n in given)
        raise SpecError(f"shard={fixed.shard}: must divide dp x cp, which divides {cluster.n_chips} chips{left}")


def _divides(tp: int, projection: Projection) -> bool:
    parts = projection.max_split
    held_by_several = projection.split_by is SplitBy.HEADS and tp % parts == 0
    return parts % tp == 0 or held_by_several


def _degrees(model: ModelSpec, cluster: ClusterSpec, global_batch: float, seq_len: int, fixed: Fixed) -> Table:
    """tp, pp, cp, dp, ep."""
    n_chips = cluster.n_chips
    stages = range(1, min(model.n_layers, n_chips, MAX_STAGES) + 1)
    contexts = range(1, max(seq_len // MIN_TOKENS_PER_CONTEXT_RANK, 1) + 1)
    n_experts = model.moe.n_experts if model.moe else 1
    table = _cross(
        {},
        tp=tensor_degrees(model, cluster) if fixed.tp is None else [fixed.tp],
        pp=[pp for pp in stages if n_chips % pp == 0] if fixed.pp is None else [fixed.pp],
        cp=[cp for cp in contexts if _context(cp, n_chips, seq_len)] if fixed.cp is None else [fixed.cp],
    )
    per_replica = table["tp"] * table["pp"] * table["cp"]
    table = {**table, "dp": n_chips / per_replica}
    even_tokens = (seq_len / table["cp"]) % table["tp"] == 0 if fixed.tp is None else True
    table = _where(table, (n_chips % per_replica == 0) & (table["dp"] <= max(global_batch, 1)) & even_tokens)
    experts = [ep for ep in range(1, n_experts + 1) if n_experts % ep == 0]
    table = _cross(table, ep=experts if fixed.ep is None or model.moe is None else [fixed.ep])
    return _where(table, (table["dp"] * table["cp"]) % table["ep"] == 0)


def _context(cp: int, n_chips: int, seq_len: int) -> bool:
    return n_chips % cp == 0 and (cp == 1 or seq_len % (2 * cp) == 0)


def _micro_batched(degrees: Table, global_batch: float, fixed: Fixed, breadth: Breadth) -> Table:
    """With micro_batch and n_micro."""
    sizes = range(1, 1 + int(min(MAX_MICRO_BATCH, max(global_batch, 1))))
    table = _cross(degrees, micro_batch=sizes if fixed.micro_batch is None else [fixed.micro_batch])
    share = np.maximum(global_batch / table["dp"], 1.0)
    size = table["micro_batch"]
    valid = share % size == 0
    if not breadth.whole_batches:
        valid |= (size == 1) | (fixed.micro_batch is not None)
    valid &= size <= share
    return _where({**table, "micro_batch": size, "n_micro": share / size}, valid)


def _sharded(table: Table, cluster: ClusterSpec, fixed: Fixed, breadth: Breadth) -> Table:
    """With zero and shard."""
    table = _cross(table, zero=[*Zero] if fixed.zero is None else [fixed.zero], wide=[1, 0])
    replicas = table["dp"] * table["cp"]
    shard = np.where(table["wide"] == 1, replicas, np.floor(cluster.n_fast / table["tp"]))
    if fixed.shard is not None:
        shard = np.where(table["wide"] == 1, fixed.shard, 0)
    in_fast = (shard > 1) & (shard < replicas) & (shard % table["ep"] == 0) & (table["zero"] > 0) & breadth.fast_shards
    valid = ((table["wide"] == 1) | in_fast) & (replicas % np.maximum(shard, 1) == 0)
    if fixed.zero is None:
        valid &= np.where(replicas == 1, table["zero"] == 0, np.isin(table["zero"], breadth.zeros))
        valid &= (table["zero"] != Zero.GRADIENTS) | (table["n_micro"] == 1)
        valid &= (table["zero"] != Zero.PARAMETERS) | (table["pp"] == 1) | breadth.sharded_stages
    return _where({**table, "shard": shard}, valid)


def _interleaved(table: Table, model: ModelSpec, fixed: Fixed, breadth: Breadth) -> Table:
    """With interleave; what is given of it asks for pipeline stages."""
    table = _cross(table, interleave=breadth.interleaves if fixed.interleave is None else [fixed.interleave])
    pieces, alone = table["interleave"] * table["pp"], table["interleave"] == 1
    even = np.logical_or.reduce([(model.n_layers + tables) % pieces == 0 for tables in (0, 1, 2)])
    if fixed.interleave is not None:
        even = np.ones_like(alone)
    filled = (pieces <= model.n_layers) & (table["n_micro"] >= table["pp"])
    return _where(table, alone | (table["pp"] > 1) & even & filled)


def _cross(table: Table, **choices: Sequence[float]) -> Table:
    """Every row with every value of each new column."""
    for name, values in choices.items():
        n_rows = len(next(iter(table.values()))) if table else 1
        repeated = {column: np.repeat(cells, len(values)) for column, cells in table.items()}
        table = {**repeated, name: np.tile(np.array(values, dtype=np.float64), n_rows)}
    return table


def _where(table: Table, kept: np.ndarray) -> Table:
    return {name: column[kept] for name, column in table.items()}


def _no_plan(model: ModelSpec, cluster: ClusterSpec, global_batch: float, fixed: Fixed) -> str:
    given = ", ".join(f"{n}={getattr(fixed, n)}" for n in NAMED if getattr(fixed, n) is not None)
    of = f"{model.name} on {cluster.n_chips} x {cluster.chip.name} with {global_batch:g} sequences a step"
    remedy = (
        "leave some of that free, or take a larger batch" if given else "a larger batch or fewer chips would have one"
    )
    return f"no parallel plan for {of}{' and ' + given if given else ''}; {remedy}"
