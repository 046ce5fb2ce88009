"""Columns: documents from one column of a Parquet file, or of a folder that Hugging Face ``datasets`` saved.

Both libraries are extras and are looked for when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from twobills.errors import DataError, MissingExtraError
from twobills.jobs.data.codec import Document
from twobills.jobs.data.compressed import reading
from twobills.jobs.data.parts import Part, Read, content_of, record

_ROWS_AT_ONCE = 512


def read_parquet(part: Part, read: Read, cut: bool) -> Iterator[Document]:
    """The rows of some row groups."""
    with _arrow(part.path) as library, library.ParquetFile(part.path) as file:
        _check_field(part, file.schema_arrow.names)
        groups = range(part.start, part.end)
        row = sum(file.metadata.row_group(i).num_rows for i in range(part.start))
        n_rows, n_read = sum(file.metadata.row_group(i).num_rows for i in groups), 0
        for rows in file.iter_batches(batch_size=_ROWS_AT_ONCE, row_groups=[*groups], columns=[part.field]):
            for value in rows.column(0).to_pylist():
                yield from record(f"{part.name}@{row}", content_of(part, f"row {row}", value), cut)
                row, n_read = row + 1, n_read + 1
                read.n_bytes = part.n_bytes * n_read / n_rows


def split_parquet(whole: Part, n_bytes: int) -> list[Part]:
    """A file by its row groups."""
    with _arrow(whole.path) as library, library.ParquetFile(whole.path) as file:
        _check_field(whole, file.schema_arrow.names)
        rows = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    parts, first, total = list[Part](), 0, max(1, sum(rows))
    for i in range(len(rows)):
        share = int(whole.file_bytes * sum(rows[first : i + 1]) / total)
        if share >= n_bytes or i == len(rows) - 1:
            parts.append(whole._replace(start=first, end=i + 1, n_bytes=share))
            first = i + 1
    return parts


def read_datasets(part: Part, read: Read, cut: bool) -> Iterator[Document]:
    """Some rows."""
    dataset = _column(part)
    for first in range(part.start, part.end, _ROWS_AT_ONCE):
        last = min(first + _ROWS_AT_ONCE, part.end)
        for row, value in enumerate(dataset[first:last][part.field], first):
            yield from record(f"@{row}", content_of(part, f"row {row}", value), cut)
        read.n_bytes = part.n_bytes * (last - part.start) / (part.end - part.start)


def split_datasets(whole: Part, n_bytes: int) -> list[Part]:
    """A folder by its rows."""
    n = len(_column(whole))
    n_parts = max(1, min(n, whole.file_bytes // n_bytes))
    edges = [n * i // n_parts for i in range(n_parts + 1)]
    return [
        whole._replace(start=a, end=b, n_bytes=int(whole.file_bytes * (b - a) / max(1, n))) for a, b in pairwise(edges)
    ]


def _column(part: Part) -> Any:
    """The column of a folder that ``datasets`` saved; of several splits the one called ``train``."""
    if find_spec("datasets") is None:
        raise MissingExtraError("reading a datasets folder needs the library: pip install 'twobills[datasets]'")
    with reading(part.path):
        try:
            found = import_module("datasets").load_from_disk(str(part.path))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"data {part.path}: is damaged ({_one_line(error)})") from None
    if isinstance(found, dict):
        if "train" not in found:
            raise DataError(f"data {part.path}: has no split 'train', only {', '.join(found)}; name one of the folders")
        found = found["train"]
    _check_field(part, found.column_names)
    return found.select_columns([part.field])


def _check_field(part: Part, names: list[str]) -> None:
    if part.field not in names:
        raise DataError(f"data {part.path}: has no column {part.field!r}, only {', '.join(names)}; set field=")


class _arrow:  # noqa: N801  (reads as a function)
    """pyarrow's Parquet reader; what it cannot read is one line that names the file."""

    def __init__(self, path: Path) -> None:
        if find_spec("pyarrow") is None:
            raise MissingExtraError("reading Parquet needs pyarrow: pip install 'twobills[parquet]'")
        self._path, self._library = path, import_module("pyarrow")

    def __enter__(self) -> Any:
        return import_module("pyarrow.parquet")

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (self._library.ArrowException, OSError)):
            raise DataError(f"data {self._path}: is damaged or not Parquet ({_one_line(error)})") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
