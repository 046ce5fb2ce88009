"""Which ways of spreading a model over chips are worth trying to serve it.

Tensor parallelism stays within the fast links (or one server's PCIe, assumed to hold eight cards) and divides the
heads; pipeline stages may cross the network; a mixture's experts are spread over all chips of a stage, whose attention
ranks may read different sequences. What is left of the offered chips makes more instances of the same kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from twobills.errors import SpecError
from twobills.plan.steady import RESERVED_BYTES, USABLE_FRAC, Instance
from twobills.specs.cluster import ClusterSpec
from twobills.specs.model import ModelSpec

PCIE_CHIPS = 8
"""Assumed: cards of one server where there are no fast links."""


class Degrees(NamedTuple):
    """How one instance is spread over chips, and how many there are; None: to be chosen."""

    tp: int | None = None
    pp: int | None = None
    ep: int | None = None
    dp: int | None = None
    n_instances: int | None = None


class Way(NamedTuple):
    """One way of spreading an instance."""

    tp: int
    pp: int
    ep: int
    dp: int

    @property
    def n_chips(self) -> int:
        """Chips of one instance."""
        return self.tp * self.pp * self.dp


def ways(model: ModelSpec, cluster: ClusterSpec, fixed: Degrees) -> list[Way]:
    """All ways that respect what is fixed. Raises SpecError where it cannot be."""
    _check(model, cluster, fixed)
    most = cluster.n_chips // (fixed.n_instances or 1)
    found = [way for way in _all(model, cluster, fixed) if way.n_chips <= most]
    if not found:
        given = ", ".join(f"{name}={n}" for name, n in fixed._asdict().items() if n is not None)
        raise SpecError(
            f"{given}: takes more than {cluster.n_chips:,} x {cluster.chip.name}; offer more chips or lower it"
        )
    return found


def instances_of(found: list[Way], cluster: ClusterSpec, weight_bytes: float, kv_bytes: float) -> Instance:
    """The same as columns, in these formats."""
    one = np.ones(len(found))
    tp, pp, ep, dp = np.array(found, dtype=np.float64).T
    return Instance(tp, pp, ep, dp, one * weight_bytes, one * kv_bytes, one * _offered_bytes(cluster))


def most_tensor_ranks(cluster: ClusterSpec) -> int:
    """The widest tensor parallelism that the chip's links carry."""
    chip = cluster.chip
    if chip.scaleup_chips is None or chip.scaleup_chips > 1:
        return chip.scaleup_chips or cluster.n_chips
    return PCIE_CHIPS if chip.scaleup_bytes_per_s is not None else 1


def only_sram(cluster: ClusterSpec) -> bool:
    """Whether the chip has no other memory than its own SRAM, placed by a compiler down to the byte."""
    return (cluster.chip.memory_kind or "").upper() == "SRAM"


def _offered_bytes(cluster: ClusterSpec) -> float:
    """Memory as ``plan.steady`` takes it: SRAM is given back what a server's engine would keep for itself."""
    if only_sram(cluster):
        return (cluster.memory_bytes + RESERVED_BYTES) / USABLE_FRAC
    return cluster.memory_bytes


def _all(model: ModelSpec, cluster: ClusterSpec, fixed: Degrees) -> Iterator[Way]:
    n_chips, experts = cluster.n_chips, model.moe.n_experts if model.moe else 1
    widest = min(most_tensor_ranks(cluster), n_chips, model.n_heads)
    for tp in _choices(fixed.tp, (t for t in _doublings(widest) if model.n_heads % t == 0)):
        for pp in _choices(fixed.pp, _stages(model.n_layers, n_chips // tp)):
            for dp in _choices(fixed.dp, _doublings(n_chips // (tp * pp)) if model.moe else [1]):
                for ep in _choices(fixed.ep, [math.gcd(tp * dp, experts)]):
                    if (tp * dp) % ep == 0:
                        yield Way(tp, pp, ep, dp)


def _check(model: ModelSpec, cluster: ClusterSpec, fixed: Degrees) -> None:
    for name, n in fixed._asdict().items():
        if n is not None and n < 1:
            raise SpecError(f"{name}={n}: must be at least 1")
    widest = most_tensor_ranks(cluster)
    if fixed.tp is not None and fixed.tp > widest:
        joined = f"join {widest}" if widest > 1 else "are no fast ones"
        raise SpecError(
            f"tp={fixed.tp}: the links of {cluster.chip.name} {joined}; tp={widest} with "
            f"pp={math.ceil(fixed.tp / widest)} takes as many chips"
        )
    if fixed.tp is not None and model.n_heads % fixed.tp:
        raise SpecError(f"tp={fixed.tp}: must divide n_heads={model.n_heads}")
    if fixed.pp is not None and fixed.pp > model.n_layers:
        raise SpecError(f"pp={fixed.pp}: {model.name} has {model.n_layers} layers")
    _check_experts(model, fixed)


def _check_experts(model: ModelSpec, fixed: Degrees) -> None:
    if not model.moe and max(fixed.ep or 1, fixed.dp or 1) > 1:
        raise SpecError(
            f"ep={fixed.ep or 1}, dp={fixed.dp or 1}: {model.name} has no experts; n_instances makes copies"
        )
    if model.moe and (fixed.ep or 1) > model.moe.n_experts:
        raise SpecError(f"ep={fixed.ep}: {model.name} has {model.moe.n_experts} experts")
    if fixed.ep and fixed.tp and fixed.dp and (fixed.tp * fixed.dp) % fixed.ep:
        raise SpecError(f"ep={fixed.ep}: must divide tp x dp = {fixed.tp * fixed.dp}")


def _choices(fixed: int | None, free: Iterable[int]) -> list[int]:
    return list(free) if fixed is None else [fixed]


def _doublings(most: int) -> list[int]:
    return [2**i for i in range(max(most, 1).bit_length())]


def _stages(n_layers: int, most: int) -> list[int]:
    """Doublings, and what divides the layers evenly."""
    return [p for p in range(1, min(n_layers, most) + 1) if n_layers % p == 0 or p & (p - 1) == 0]
