"""Formats: how documents are read from a part of a source, and how a file is divided into parts."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from twobills.errors import DataError
from twobills.jobs.data.codec import Document
from twobills.jobs.data.columns import read_datasets, read_parquet, split_datasets, split_parquet
from twobills.jobs.data.compressed import opened
from twobills.jobs.data.parts import PIECE_BYTES, WHOLE_BYTES, Part, Read, content_of, cut_stream, record
from twobills.specs.data import Format


def read_part(part: Part, read: Read, *, cut: bool) -> Iterator[Document]:
    """The documents of a part; ``cut`` cuts all of them into pieces. Empty ones are left out."""
    for document in _READERS[part.format](part, read, cut):
        if document.content:
            yield document
    read.n_bytes = part.n_bytes


def split_file(whole: Part, n_bytes: int) -> list[Part]:
    """The file in parts of about ``n_bytes`` on disk, as far as its format can be entered in the middle."""
    if whole.format is Format.PARQUET:
        return split_parquet(whole, n_bytes)
    if whole.format is Format.DATASETS:
        return split_datasets(whole, n_bytes)
    if whole.compression:
        return [whole]
    if whole.format is Format.FILES and whole.file_bytes <= WHOLE_BYTES:
        return [whole._replace(end=whole.file_bytes)]
    step = max(1, n_bytes // PIECE_BYTES) * PIECE_BYTES
    edges = [*range(0, max(1, whole.file_bytes), step), whole.file_bytes]
    return [whole._replace(start=a, end=b, n_bytes=b - a) for a, b in pairwise(edges)]


def holds_field(path: Path, compression: str, field: str) -> bool:
    """Whether the first line is a JSON object with text in this field."""
    with opened(path, compression) as file:
        line = file.stream.readline()
    try:
        return isinstance(json.loads(line).get(field), str)
    except (ValueError, AttributeError):
        return False


def _files(part: Part, read: Read, cut: bool) -> Iterator[Document]:
    with opened(part.path, part.compression) as file:

        def told() -> None:
            read.n_bytes = file.raw.tell() - part.start

        if part.compression:
            first = file.stream.read(WHOLE_BYTES + 1)
            if not cut and len(first) <= WHOLE_BYTES:
                yield Document(part.name, first)
            else:
                yield from cut_stream(_Again(first, file.stream), part.name, 0, None, told)
        elif cut or part.file_bytes > WHOLE_BYTES:
            file.stream.seek(part.start)
            yield from cut_stream(file.stream, part.name, part.start, part.end, told)
            _check_length(part, file.raw)
        else:
            content = file.stream.read()
            _check_length(part, file.raw)
            yield Document(part.name, content)


def _check_length(part: Part, raw: Any) -> None:
    if raw.seek(0, io.SEEK_END) != part.file_bytes:
        raise DataError(f"data {part.path}: changed while it was read; start again")


class _Again:
    """A stream whose beginning has been read already."""

    def __init__(self, first: bytes, rest: Any) -> None:
        self._first, self._rest = io.BytesIO(first), rest

    def read(self, n: int) -> bytes:
        found = self._first.read(n)
        return found if len(found) == n else found + self._rest.read(n - len(found))


def _jsonl(part: Part, read: Read, cut: bool) -> Iterator[Document]:
    with opened(part.path, part.compression) as file:
        stream = file.stream
        if part.start:  # the line that begins before the part belongs to the part before
            stream.seek(part.start - 1)
            stream.readline()
        at = stream.tell() if not part.compression else 0
        while part.compression or at < part.end:
            line = stream.readline()
            if not line:
                if not part.compression and at < part.end:
                    raise DataError(f"data {part.path}: changed while it was read; start again")
                return
            read.n_bytes = file.raw.tell() - part.start if part.compression else at - part.start
            if line.strip():
                yield from record(f"{part.name}@{at}", _field(part, at, line), cut)
            at += len(line)


def _field(part: Part, at: int, line: bytes) -> bytes:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"data {part.path}: the line at byte {at} is not JSON ({error})") from None
    if not isinstance(record, dict) or part.field not in record:
        known = ", ".join(map(str, record)) if isinstance(record, dict) else type(record).__name__
        raise DataError(
            f"data {part.path}: the line at byte {at} has no field {part.field!r}, only {known}; set field="
        )
    return content_of(part, f"the line at byte {at}", record[part.field])


_READERS: dict[Format, Callable[[Part, Read, bool], Iterator[Document]]] = {
    Format.FILES: _files,
    Format.JSONL: _jsonl,
    Format.PARQUET: read_parquet,
    Format.DATASETS: read_datasets,
}
