"""What a model learns from, as a user states it: sources with weights, what they are made of, where tokens are kept.

In a TOML file ``data`` is a path, or ``[[data]]`` tables when there are several sources or a format must be named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from twobills.errors import RequestError

DATA_KEYS = ("data", "modality", "levels", "data_cache", "packing")
"""The keys of a job's file that this module reads."""
DIGITS = "digits"
"""As a path, where nothing has that name: scikit-learn's digits, which are images."""
MOST_UNEQUAL = 1e6
"""No source may weigh more than so many times another."""
_Choice = TypeVar("_Choice", bound=StrEnum)


class Modality(StrEnum):
    """What the data is, and so how it becomes tokens."""

    TEXT = "text"
    """A learned vocabulary of byte pairs."""
    BYTES = "bytes"
    """One token for each byte: recordings, logs, anything."""
    IMAGES = "images"
    """One token for each pixel value, and one for the class."""


class Format(StrEnum):
    """How a source holds its documents."""

    FILES = "files"
    """Every file is one, compressed or not."""
    JSONL = "jsonl"
    """Every line is a JSON object; one of its fields is the document."""
    PARQUET = "parquet"
    """Every row is a record; one of its columns is the document."""
    DATASETS = "datasets"
    """A folder that Hugging Face ``datasets`` saved with ``save_to_disk``."""


class Packing(StrEnum):
    """How documents fill the windows that a model is trained on."""

    STREAM = "stream"
    """One after the other without a gap; windows begin anywhere, elsewhere in every epoch."""
    DOCUMENTS = "documents"
    """A window begins with a document, or where a long one was cut, and ends with one if it can; the rest is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """One source of documents."""

    path: Path | None = None
    """A file or folder; None is the Python standard library's source, or scikit-learn's digits if images are wanted."""
    weight: float | None = None
    """Its share of the tokens, relative to the other sources' weights; None: as much as it has."""
    format: Format | None = None
    """None: told from names and content."""
    field: str = "text"
    """Of JSONL, Parquet and ``datasets``: where the document is."""

    def __post_init__(self) -> None:
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise RequestError(f"[[data]] weight={self.weight:g}: must be above 0")
        if not self.field:
            raise RequestError("[[data]] field='': must name the field that holds the text")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """Everything a model learns from."""

    sources: tuple[SourceSpec, ...] = (SourceSpec(),)
    modality: Modality = Modality.TEXT
    levels: int | None = None
    """Of images: how many levels each value of a pixel has; None: the default of the source."""
    cache: Path | None = None
    """A folder of tokens that runs share; None keeps them beside the run."""
    packing: Packing = Packing.STREAM

    def __post_init__(self) -> None:
        if not self.sources:
            raise RequestError("[[data]]: is empty; give at least one source, or leave data out")
        weights = [source.weight for source in self.sources if source.weight is not None]
        if weights and len(weights) < len(self.sources):
            raise RequestError("[[data]]: some sources have a weight and some have none; give all of them one, or none")
        if weights and max(weights) > MOST_UNEQUAL * min(weights):
            raise RequestError(
                f"[[data]] weight={min(weights):g}: less than a millionth of another source's; leave the source out"
            )
        if self.modality is Modality.IMAGES and (len(self.sources) > 1 or self.sources[0].format):
            raise RequestError("[[data]]: images come from one folder of PNG files; give data = the folder")
        if self.levels is not None and (self.modality is not Modality.IMAGES or not 2 <= self.levels <= 256):
            raise RequestError(f"levels={self.levels}: must be between 2 and 256, and of images")

    @classmethod
    def of(cls, path: Path | None, modality: Modality = Modality.TEXT) -> DataSpec:
        """The data at one path, as a command's ``--data`` names it."""
        if path == Path(DIGITS) and not path.exists():
            return cls(modality=Modality.IMAGES)
        return cls(sources=(SourceSpec(path=path),), modality=modality)


def data_from_document(document: Mapping[str, Any], folder: Path) -> DataSpec:
    """The data of a job's file; relative paths begin at ``folder``. Raises RequestError, naming the key."""
    data = document.get("data")
    modality = _choice("modality", document["modality"], Modality) if "modality" in document else None
    if data == DIGITS and not (folder / DIGITS).exists() and modality in (None, Modality.IMAGES):
        data, modality = None, Modality.IMAGES
    if data is None:
        sources: tuple[SourceSpec, ...] = (SourceSpec(),)
    elif isinstance(data, str):
        sources = (SourceSpec(path=_path("data", data, folder)),)
    elif isinstance(data, list) and all(isinstance(table, dict) for table in data):
        sources = tuple(_source(table, folder) for table in data)
    else:
        raise RequestError(f"data={data!r}: must be a path, or [[data]] tables with a path each")
    cache, levels = document.get("data_cache"), document.get("levels")
    if levels is not None and (isinstance(levels, bool) or not isinstance(levels, int)):
        raise RequestError(f"levels={levels!r}: must be a whole number")
    return DataSpec(
        sources=sources,
        modality=modality or Modality.TEXT,
        levels=levels,
        cache=None if cache is None else _path("data_cache", cache, folder),
        packing=_choice("packing", document.get("packing", Packing.STREAM), Packing),
    )


def _source(table: Mapping[str, Any], folder: Path) -> SourceSpec:
    known = [f.name for f in fields(SourceSpec)]
    if unknown := [key for key in table if key not in known]:
        raise RequestError(f"[[data]]: unknown key {unknown[0]!r}; known are {', '.join(known)}")
    if "path" not in table:
        raise RequestError("[[data]]: path is missing; say where the source is")
    weight, named = table.get("weight"), table.get("field", "text")
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, (int, float))):
        raise RequestError(f"[[data]] weight={weight!r}: must be a number")
    if not isinstance(named, str):
        raise RequestError(f"[[data]] field={named!r}: must be the name of a field")
    return SourceSpec(
        path=_path("[[data]] path", table["path"], folder),
        weight=None if weight is None else float(weight),
        format=_choice("[[data]] format", table["format"], Format) if "format" in table else None,
        field=named,
    )


def _path(key: str, value: Any, folder: Path) -> Path:
    if not isinstance(value, str) or not value:
        raise RequestError(f"{key}={value!r}: must be a path")
    return (folder / Path(value).expanduser()).resolve()


def _choice(key: str, value: Any, choices: type[_Choice]) -> _Choice:
    if not isinstance(value, str) or value not in {choice.value for choice in choices}:
        raise RequestError(f"{key}={value!r}: must be one of {', '.join(choices)}")
    return choices(value)
