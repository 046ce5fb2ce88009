"""Published laws from the catalogue, by name."""

from __future__ import annotations

from twobills.errors import CatalogError
from twobills.laws.forms import Law
from twobills.specs.catalog import read_rows

_NUMBERS = ("E", "A", "B", "alpha", "beta", "min_params", "max_params")


def published_law(name: str) -> Law:
    """The law of that name. Raises CatalogError, listing those there are."""
    rows = read_rows("laws")
    if name not in rows:
        raise CatalogError(f"law {name!r}: not in the catalogue; it has {', '.join(sorted(rows))}")
    row = rows[name]
    return Law(name=name, source=row["source"], **{key: row[key] for key in _NUMBERS})
