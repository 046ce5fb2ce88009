"""Our training FLOPs held against published totals, each in its source's own convention.

The inputs of a row are its model (or parameters), tokens and convention, never its FLOPs. Rows marked as not agreeing
are shown with the reason and not counted; those whose source does not name its convention are told apart, because
there the choice of the convention is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from twobills.counts.conventions import train_flops, train_flops_of_params
from twobills.specs import catalog
from twobills.specs.flop_totals import FlopTotal, flop_totals

TOLERANCE = 0.03
"""A total agrees within this share: published figures have two or three digits."""


class FlopComparison(NamedTuple):
    """One published total and ours."""

    row: FlopTotal
    ours_flops: float

    @property
    def error(self) -> float:
        """ours / published - 1."""
        return self.ours_flops / self.row.flops - 1

    @property
    def within(self) -> bool:
        """Whether the two agree within the tolerance."""
        return abs(self.error) <= TOLERANCE

    @property
    def counted(self) -> bool:
        """Whether the row is evidence: read in its source and not marked as disagreeing."""
        return self.row.verified and self.row.agrees

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        row = self.row
        return {
            "model": row.name,
            "n_tokens": row.n_tokens,
            "convention": row.convention.value,
            "convention_stated": row.convention_stated,
            "published_flops": row.flops,
            "ours_flops": self.ours_flops,
            "rel_error": self.error,
            "agrees": row.agrees,
            "verified": row.verified,
            "note": row.note or None,
            "source": row.source,
        }


class FlopAgreement(NamedTuple):
    """How many totals agree, of the rows read in their source and not marked as disagreeing."""

    n: int
    n_within: int
    n_within_stated: int
    """Of them with the convention stated by the source."""
    max_abs_rel_error: float


def flop_totals_table() -> list[FlopComparison]:
    """Every published total beside ours, in the file's order. Raises CatalogError for a model that is not there."""
    return [FlopComparison(row, our_flops(row)) for row in flop_totals()]


def our_flops(row: FlopTotal) -> float:
    """FLOPs of a row's run by its convention, from its inputs alone."""
    if row.model is not None and row.seq_len is not None:
        return train_flops(catalog.model(row.model), row.n_tokens, row.seq_len, row.convention)
    return train_flops_of_params(row.n_params or 0.0, row.n_tokens, row.convention)


def agreement(table: Sequence[FlopComparison]) -> FlopAgreement:
    """The figures of a table in which at least one row counts."""
    counted = [one for one in table if one.counted]
    within = [one for one in counted if one.within]
    return FlopAgreement(
        n=len(counted),
        n_within=len(within),
        n_within_stated=sum(one.row.convention_stated for one in within),
        max_abs_rel_error=max(abs(one.error) for one in counted),
    )
