"""What a user wrote of models, chips and quantities as the things themselves, else one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

from twobills.errors import CatalogError, RequestError
from twobills.specs import catalog
from twobills.specs.hf import read_config
from twobills.specs.model import ModelSpec
from twobills.units import parse_count


def resolve_model(name: str, catalog_file: Path | None = None) -> ModelSpec:
    """A catalogue name, a ``config.json`` or a folder with one. Raises RequestError if it is none of them."""
    path = Path(name)
    if path.is_dir():
        return read_config(path / "config.json")
    if path.is_file():
        return read_config(path)
    try:
        return catalog.model(name, catalog_file)
    except CatalogError as error:
        raise RequestError(f"{error}; a path to a config.json or a model folder works too") from None


def parse_chips(text: str) -> tuple[str, int]:
    """Name and count of ``h100-sxm:16384``; one chip where no count is given. Raises RequestError."""
    name, colon, count = text.partition(":")
    if "," in text:
        raise RequestError(f"--chips {text!r}: one kind of chip trains one run; several are for `search training`")
    try:
        n_chips = int(parse_count(count)) if colon else 1
    except ValueError:
        n_chips = 0
    if n_chips < 1 or not name:
        raise RequestError(f"--chips {text!r}: write it as NAME:COUNT, like h100-sxm:1024")
    return name, n_chips


def quantity(option: str, text: str) -> float:
    """A count that an option gives, above 0. Raises RequestError, naming the option."""
    try:
        value = parse_count(text)
    except ValueError as error:
        raise RequestError(f"{option} {error}") from None
    if value <= 0:
        raise RequestError(f"{option} {text}: must be above 0")
    return value
