"""Published laws from the catalogue, by name: each with its source, its range and what N and C mean in it.

A row names its ``form`` and states that form's constants; an unknown key or a missing constant is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any

from twobills.errors import CatalogError, SpecError
from twobills.laws.distillation import DistillationLaw
from twobills.laws.forms import ComputeMeaning, Law, ParamsMeaning
from twobills.laws.kaplan import KaplanLaw
from twobills.laws.overtraining import OverTrainedLaw
from twobills.laws.precision import PrecisionLaw
from twobills.laws.repeats import DataConstrainedLaw
from twobills.laws.testtime import CoverageLaw
from twobills.specs.catalog import read_rows

AnyLaw = Law | KaplanLaw | DataConstrainedLaw | OverTrainedLaw | PrecisionLaw | DistillationLaw | CoverageLaw
DEFAULT_LAW = "besiroglu-2024"
FORMS: Mapping[str, type[Any]] = {
    "additive": Law,
    "kaplan": KaplanLaw,
    "data_constrained": DataConstrainedLaw,
    "over_trained": OverTrainedLaw,
    "precision": PrecisionLaw,
    "distillation": DistillationLaw,
    "coverage": CoverageLaw,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedLaw:
    """One row: the law and where it comes from."""

    name: str
    form: str
    law: AnyLaw
    source: str
    as_of: str
    verified: bool
    """Whether the constants were read in the source or in what the source's authors released; if not, recalled."""
    n_means: ParamsMeaning
    c_means: ComputeMeaning
    min_params: float | None = None
    """With the other three: what the law was fitted on; None where it is not known."""
    max_params: float | None = None
    min_tokens: float | None = None
    max_tokens: float | None = None
    note: str = ""
    covariance_source: str = ""


def published_law(name: str) -> Law:
    """The law L(N, D) of that name. Raises CatalogError, listing those there are."""
    rows = {row: each for row, each in published_laws().items() if isinstance(each.law, Law)}
    if name not in rows:
        raise CatalogError(f"law {name!r}: not in the catalogue; it has {', '.join(sorted(rows))}")
    law = rows[name].law
    assert isinstance(law, Law)
    return law


def published(name: str) -> PublishedLaw:
    """The row of that name, whatever its form. Raises CatalogError, listing those there are."""
    if name not in published_laws():
        raise CatalogError(f"law {name!r}: not in the catalogue; it has {', '.join(sorted(published_laws()))}")
    return published_laws()[name]


@cache
def published_laws() -> Mapping[str, PublishedLaw]:
    """All rows, in the catalogue's order."""
    return {name: read_law(name, row) for name, row in read_rows("laws").items()}


def read_law(name: str, row: Mapping[str, Any]) -> PublishedLaw:
    """One row. Raises CatalogError, naming the row and the key."""
    what = f"laws.toml: {name}"
    form = row.get("form", "additive")
    if form not in FORMS:
        raise CatalogError(f"{what}: form={form!r}: not one of {', '.join(FORMS)}")
    beside = {field.name: field.default is MISSING for field in fields(PublishedLaw)} | {"form": False}
    del beside["law"], beside["name"]
    constants = _constant_names(FORMS[form])
    if unknown := sorted(set(row) - set(beside) - set(constants)):
        raise CatalogError(f"{what}: unknown key {unknown[0]!r}; a law of form {form} has {', '.join(constants)}")
    needed = [key for key, must in {**beside, **constants}.items() if must]
    if missing := [key for key in needed if key not in row]:
        raise CatalogError(f"{what}: {missing[0]} is missing")
    meanings = {"n_means": ParamsMeaning(row["n_means"]), "c_means": ComputeMeaning(row["c_means"])}
    try:
        law = _built(FORMS[form], name, row)
    except SpecError as error:
        raise CatalogError(f"{what}: {error}") from None
    facts = {key: value for key, value in row.items() if key in beside} | {"form": form} | meanings
    return PublishedLaw(**facts, name=name, law=law)


def _constant_names(form: type[Any]) -> dict[str, bool]:
    """Keys of the form's constants, those of a law inside it among them, and whether each must be there."""
    names: dict[str, bool] = {}
    for field in fields(form):
        if field.name == "law":
            names |= _constant_names(Law)
        elif field.name not in {"name", "source"}:
            names[field.name] = field.default is MISSING
    return names


def _built(form: type[Any], name: str, row: Mapping[str, Any]) -> AnyLaw:
    known = {field.name for field in fields(form)}
    given = {key: row[key] for key in known & set(row)}
    if "covariance" in given:
        given["covariance"] = tuple(tuple(line) for line in given["covariance"])
    if "law" in known:
        inner = {field.name for field in fields(Law)} - {"covariance"}
        given["law"] = Law(name=name, **{key: row[key] for key in inner & set(row)})
    if "name" in known:
        given["name"] = name
    built: AnyLaw = form(**given)
    return built
