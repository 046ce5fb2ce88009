"""What a user wrote of models, chips and quantities as the things themselves, else one line that says what is wrong."""

from __future__ import annotations

import math
from pathlib import Path

from twobills.errors import CatalogError, RequestError
from twobills.specs import catalog
from twobills.specs.hf import read_config
from twobills.specs.model import ModelSpec
from twobills.units import BITS_PER_BYTE, GIGA, parse_count

MOST_TOKENS, MOST_CHIPS = 1e18, 10**8
"""More than a thousand times what anybody trains on, or with: a slip of the pen."""


def resolve_model(name: str, catalog_file: Path | None = None) -> ModelSpec:
    """A catalogue name, a ``config.json`` or a folder with one. Raises RequestError if it is none of them."""
    path = Path(name)
    if path.is_dir():
        return read_config(path / "config.json")
    if path.is_file():
        return read_config(path)
    catalog.models(catalog_file)  # a file that cannot be read says so itself
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
        n_chips = parse_count(count) if colon else 1
    except ValueError:
        n_chips = 0
    if n_chips <= 0 or n_chips % 1 or not name:
        whole = " in whole chips" if n_chips % 1 else ""
        raise RequestError(f"--chips {text!r}: write it as NAME:COUNT{whole}, like h100-sxm:1024")
    if n_chips > MOST_CHIPS:
        raise RequestError(f"--chips {text!r}: at most {MOST_CHIPS:,} chips")
    return name, int(n_chips)


def quantity(option: str, text: str, at_most: float = math.inf) -> float:
    """A count that an option gives, above 0. Raises RequestError, naming the option."""
    try:
        value = parse_count(text)
    except ValueError as error:
        raise RequestError(f"{option} {error}") from None
    if value <= 0:
        raise RequestError(f"{option} {text}: must be above 0")
    if value > at_most:
        raise RequestError(f"{option} {text}: must be at most {at_most:g}")
    return value


def network_bytes_per_s(gbps: float | None) -> float | None:
    """Of ``--network-gbps``; None where it is not given. Raises RequestError."""
    if gbps is None:
        return None
    if not 0 < gbps < math.inf:
        raise RequestError(f"--network-gbps {gbps:g}: must be a number above 0")
    return gbps * GIGA / BITS_PER_BYTE
