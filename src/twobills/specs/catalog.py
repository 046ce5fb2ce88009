"""The catalogue: chips, prices, models and laws that we or a user wrote down, one row each, with source and date.

The only reader of ``data/*.toml``. An unknown key or a missing source is an error: a fact nobody can check is not
a fact. A user's own rows are one TOML file, ``extra``: the same rows, as ``[chip.NAME]``, ``[model.NAME]`` and
``[[price]]``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from twobills.errors import CatalogError
from twobills.specs.chip_rows import read_chip, read_price
from twobills.specs.hardware import ChipSpec
from twobills.specs.model import ModelSpec
from twobills.specs.model_rows import model_aliases, read_model, trained_seq_len
from twobills.specs.prices import ChipPrice, default_price

THIS_MACHINE_CPU = "cpu-core"
T = TypeVar("T")
_SECTIONS = ("chip", "price", "model")


def chip(name: str, extra: Path | None = None) -> ChipSpec:
    """The chip of that name or alias, whatever its case, ``_`` or ``-``: ``h100`` means ``h100-sxm``.

    Raises CatalogError for a name that nothing or more than one chip has, naming what is near.
    """
    rows, key = chips(extra), _plain(name)
    if key in rows:
        return rows[key]
    meant = [row for row in rows.values() if key in map(_plain, row.aliases)]
    if len(meant) > 1:
        raise CatalogError(f"chip {name!r}: may mean {' or '.join(row.name for row in meant)}; say which")
    if not meant:
        raise CatalogError(
            f"chip {name!r}: not in the catalogue; {_near_chips(key, rows)}`twobills chips list` shows all"
        )
    return meant[0]


def chip_price(chip_name: str, extra: Path | None = None) -> ChipPrice:
    """The default price of a chip (see ``specs.prices``). Raises CatalogError where the catalogue has none."""
    found = chip_prices(chip_name, extra)
    if not found:
        raise CatalogError(
            f"price for chip {chip_name!r}: nobody's is in the catalogue; give yours with --usd-per-chip-hour"
        )
    return default_price(found)


def chip_prices(chip_name: str, extra: Path | None = None) -> tuple[ChipPrice, ...]:
    """All prices of a chip by the hour, none if the catalogue has none."""
    return prices(extra).get(chip(chip_name, extra).name, ())


def model(name: str, extra: Path | None = None) -> ModelSpec:
    """The model of that name or alias, whatever its case, ``_`` or ``-``: ``Llama 3.3 70B`` is ``llama-3.1-70b``.

    Raises CatalogError for a name that no model has, naming what is near.
    """
    rows = models(extra)
    meant = {**_model_aliases(extra), **{_plain(row): row for row in rows}}
    return _find(rows, meant.get(_plain(name), name), "model")


def train_seq_len(model_name: str, extra: Path | None = None) -> int | None:
    """Tokens of a sequence in most of that model's own pre-training; None where its row does not say."""
    name = model(model_name, extra).name
    mine = {} if extra is None else {key.lower(): row for key, row in _users(extra, "model").items()}
    if name in mine:
        return trained_seq_len(name, mine[name], where=str(extra))
    return trained_seq_len(name, read_rows("models")[name])


def chips(extra: Path | None = None) -> Mapping[str, ChipSpec]:
    """All chips of the catalogue; those of the user's file ``extra`` override ours of the same name or alias."""
    if extra is None:
        return _our_chips()
    mine = {_plain(name): read_chip(_plain(name), row, where=str(extra)) for name, row in _users(extra, "chip").items()}
    taken = {_plain(alias) for row in mine.values() for alias in row.aliases}
    ours = {name: _without_aliases(row, taken) for name, row in _our_chips().items()}
    for name in mine.keys() & ours.keys():
        mine[name] = replace(mine[name], aliases=(*mine[name].aliases, *ours[name].aliases))
    return {**ours, **mine}


def prices(extra: Path | None = None) -> Mapping[str, tuple[ChipPrice, ...]]:
    """All prices of each chip; a user's prices of a chip take the place of ours."""
    if extra is None:
        return _our_prices()
    mine = [read_price(row, where=str(extra)) for row in _users(extra, "price")]
    return {**_our_prices(), **_by_chip([_named(price, extra) for price in mine])}


def models(extra: Path | None = None) -> Mapping[str, ModelSpec]:
    """All models of the catalogue; those of the user's file ``extra`` override ours of the same name."""
    if extra is None:
        return _our_models()
    mine = {name.lower(): read_model(name, row, where=str(extra)) for name, row in _users(extra, "model").items()}
    return {**_our_models(), **mine}


@cache
def read_rows(table: str) -> Mapping[str, Any]:
    """The raw rows of one catalogue file, by name."""
    text = resources.files("twobills.data").joinpath(f"{table}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _model_aliases(extra: Path | None) -> Mapping[str, str]:
    """The model that each alias means; a user's aliases take the place of ours."""
    if extra is None:
        return _our_model_aliases()
    mine = {
        _plain(alias): name.lower()
        for name, row in _users(extra, "model").items()
        for alias in model_aliases(name, row, where=str(extra))
    }
    return {**_our_model_aliases(), **mine}


@cache
def _our_model_aliases() -> Mapping[str, str]:
    return {_plain(alias): name for name, row in read_rows("models").items() for alias in model_aliases(name, row)}


@cache
def _our_models() -> Mapping[str, ModelSpec]:
    return {name: read_model(name, row) for name, row in read_rows("models").items()}


@cache
def _our_chips() -> Mapping[str, ChipSpec]:
    return {name: read_chip(name, row) for name, row in read_rows("chips").items()}


@cache
def _our_prices() -> Mapping[str, tuple[ChipPrice, ...]]:
    return _by_chip([read_price(row) for row in read_rows("prices")["price"]])


def _named(price: ChipPrice, extra: Path) -> ChipPrice:
    """A user's price under the name of the chip that he meant."""
    try:
        return replace(price, chip=chip(price.chip, extra).name)
    except CatalogError as error:
        raise CatalogError(f"{extra}: price of {price.chip}: {error}") from None


def _by_chip(found: Sequence[ChipPrice]) -> dict[str, tuple[ChipPrice, ...]]:
    chips_priced = dict.fromkeys(price.chip for price in found)
    return {name: tuple(price for price in found if price.chip == name) for name in chips_priced}


def _users(path: Path, section: str) -> Any:
    """One section of a user's file: tables ``[chip.NAME]`` and ``[model.NAME]``, rows ``[[price]]``."""
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"{path}: not TOML ({error})") from None
    if unknown := [name for name in rows if name not in _SECTIONS]:
        raise CatalogError(f"{path}: unknown table {unknown[0]!r}; write [chip.NAME], [model.NAME] or [[price]]")
    found = rows.get(section, [] if section == "price" else {})
    if not isinstance(found, list if section == "price" else dict):
        raise CatalogError(f"{path}: {section}: write {'[[price]]' if section == 'price' else f'[{section}.NAME]'}")
    return found


def _without_aliases(row: ChipSpec, taken: set[str]) -> ChipSpec:
    kept = tuple(alias for alias in row.aliases if _plain(alias) not in taken)
    return row if kept == row.aliases else replace(row, aliases=kept)


def _plain(name: str) -> str:
    """A chip's name without its spelling: ``H100_80GB`` is ``h100-80gb``."""
    return name.strip().lower().replace("_", "-").replace(" ", "-")


def _near_chips(key: str, rows: Mapping[str, ChipSpec]) -> str:
    return _near(key, {_plain(alias): row.name for row in rows.values() for alias in (row.name, *row.aliases)})


def _near(key: str, names: Mapping[str, str]) -> str:
    """The names near what was written, by how they are written."""
    near = list(dict.fromkeys(names[match] for match in get_close_matches(key, names, n=6, cutoff=0.6)))[:3]
    return f"near it: {', '.join(near)}; " if near else ""


def _find(rows: Mapping[str, T], name: str, what: str) -> T:
    try:
        return rows[name.lower()]
    except KeyError:
        near = _near(_plain(name), {row: row for row in rows}) or f"it has {', '.join(sorted(rows))}; "
        raise CatalogError(f"{what} {name!r}: not in the catalogue; {near.removesuffix('; ')}") from None
