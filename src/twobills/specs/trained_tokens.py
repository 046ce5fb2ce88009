"""On how many tokens the catalogue's models were pre-trained, where that is known.

A row of models.toml may say so itself; else the published totals of FLOPs do, which name the tokens they count.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from twobills.specs.catalog import read_rows
from twobills.specs.flop_totals import flop_totals
from twobills.specs.model_rows import trained_tokens_row


class TrainedTokens(NamedTuple):
    """The tokens of one model's own pre-training, repeats included."""

    n_tokens: float
    source: str
    verified: bool
    """Whether the tokens were read in the source; if not, recalled."""


@cache
def trained_tokens() -> Mapping[str, TrainedTokens]:
    """By model, those of which it is known; what was read goes before what was recalled."""
    totals = sorted((row for row in flop_totals() if row.model), key=lambda row: row.verified)
    found = {row.model: TrainedTokens(row.n_tokens, row.source, row.verified) for row in totals}
    for name, row in read_rows("models").items():
        if stated := trained_tokens_row(name, row):
            found[name] = TrainedTokens(*stated)
    return {name: found[name] for name in read_rows("models") if name in found}
