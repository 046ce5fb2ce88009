"""FLOPs of whole training runs that others published, and the conventions by which FLOPs are counted.

A published total means something only beside its convention: one run is 6ND to one author and a third more to another
who counts recomputation. Each row of ``data/flop_totals.toml`` names its source's own, and says whether the source
states it or something else points to it. The formulas are in ``counts.conventions``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from functools import cache
from typing import Any

from twobills.errors import CatalogError, SpecError
from twobills.specs.catalog import read_rows


class FlopConvention(StrEnum):
    """How the FLOPs of a training run are counted; a multiply-add is 2, backward is twice forward."""

    SIX_ND = "six_nd"
    """6 for each parameter, embeddings included, and each token; attention left out."""
    SIX_ND_ACTIVE = "six_nd_active"
    """The same with the parameters that one token touches: mixtures of experts."""
    PALM = "palm"
    """6ND and attention over the whole square: 12 n_layers n_heads d_head seq_len for each token."""
    MEGATRON = "megatron"
    """6 for each parameter that multiplies (head, no look-up), and attention over the whole square."""
    MODEL_FLOPS = "model_flops"
    """Ours: 6 for each parameter that multiplies, and attention's causal half within its windows."""
    FULL_RECOMPUTE = "full_recompute"
    """As Megatron's, with the layers' forward pass counted twice: executed, not needed."""
    EIGHT_ND = "eight_nd"
    """6ND with the forward pass counted twice; attention left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlopTotal:
    """One published total: of a model of the catalogue, or of a stated number of parameters."""

    name: str
    flops: float
    """Of the whole run, as published."""
    n_tokens: float
    convention: FlopConvention
    source: str
    as_of: str
    verified: bool
    """Whether flops and tokens were read in the source."""
    model: str | None = None
    """A model of the catalogue."""
    seq_len: int | None = None
    """With ``model``: tokens of one training sequence."""
    n_params: float | None = None
    """In place of ``model``: parameters as the convention counts them."""
    params_source: str | None = None
    convention_stated: bool = True
    """Whether the source says how it counted; if not, ``note`` says what points to the convention."""
    agrees: bool = True
    """Whether our count comes near it; if not, ``note`` says why."""
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("flops", "n_tokens"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise SpecError(f"{name}={value:g}: must be a number above 0")
        if (self.model is None) == (self.n_params is None):
            raise SpecError(f"n_params={self.n_params}: a row has either a model or n_params; model={self.model}")
        if (self.model is None) != (self.seq_len is None):
            raise SpecError(f"seq_len={self.seq_len}: goes with a model; model={self.model}")
        if (self.n_params is None) != (self.params_source is None):
            raise SpecError(f"params_source={self.params_source}: goes with n_params={self.n_params}")
        if not (self.note or (self.agrees and self.convention_stated)):
            raise SpecError("note='': must say why the row does not agree or what points to the convention")


@cache
def flop_totals() -> tuple[FlopTotal, ...]:
    """All published totals. Raises CatalogError where a row breaks the file's rules."""
    return tuple(read_flop_total(row) for row in read_rows("flop_totals")["total"])


def read_flop_total(row: Mapping[str, Any]) -> FlopTotal:
    """One row. Raises CatalogError, naming the row and the key."""
    what = f"flop_totals.toml: {row.get('name', 'a row without a name')}"
    known = {field.name: field.default is MISSING for field in fields(FlopTotal)}
    if missing := [key for key, required in known.items() if required and key not in row]:
        raise CatalogError(f"{what}: {missing[0]} is missing")
    if unknown := sorted(set(row) - set(known)):
        raise CatalogError(f"{what}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
    if row["convention"] not in set(FlopConvention):
        raise CatalogError(f"{what}: convention={row['convention']!r}: not one of {', '.join(FlopConvention)}")
    try:
        return FlopTotal(**{**row, "convention": FlopConvention(row["convention"])})
    except SpecError as error:
        raise CatalogError(f"{what}: {error}") from None
