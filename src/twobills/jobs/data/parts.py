"""Parts of sources: what one worker reads from one file, and how long content is cut into pieces.

A document's name tells where it is, and nothing about how its file was divided: so neither the split into training and
held-out text nor the tokens depend on the size of parts or the number of workers.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from twobills.errors import DataError
from twobills.jobs.data.codec import Document
from twobills.specs.data import Format

PIECE_BYTES = 8_192
"""A file that is cut is cut into pieces of about so many bytes."""
WHOLE_BYTES = 16_000_000
"""A file above this is always cut: no document may fill the memory."""
_LINE_ENDS = PIECE_BYTES // 2
"""A piece ends at a line's end if there is one within so many bytes."""


class Part(NamedTuple):
    """A part of a file, or all of it."""

    path: Path
    name: str
    """Relative to its source."""
    format: Format
    field: str
    compression: str
    start: int
    end: int
    """Bytes of plain files and JSONL, row groups of Parquet, rows of ``datasets``; 0 to 0 of what is compressed."""
    n_bytes: int
    """On disk."""
    file_bytes: int
    modified_ns: int

    @property
    def fingerprint(self) -> list[Any]:
        """Equal as long as the file is taken to be the same."""
        return [self.name, self.format, self.field, self.start, self.end, self.file_bytes, self.modified_ns]


class Read:
    """How much of a part has been read, in bytes on disk."""

    def __init__(self) -> None:
        self.n_bytes = 0.0


def pieces(content: bytes, name: str) -> Iterator[Document]:
    """Content in pieces, cut at line ends or at least between characters."""
    return cut_stream(io.BytesIO(content), name, 0, len(content), lambda: None)


def record(name: str, content: bytes, cut: bool) -> Iterator[Document]:
    """One record as a document, or as several if it is to be cut or is too long."""
    if len(content) > WHOLE_BYTES or (cut and len(content) > PIECE_BYTES):
        return pieces(content, name)
    return iter([Document(name, content)])


def content_of(part: Part, where: str, value: Any) -> bytes:
    """What a field holds, as bytes. Raises DataError if it is no text."""
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if isinstance(value, bytes):
        return value
    raise DataError(f"data {part.path}: {part.field!r} of {where} is {type(value).__name__}, not text; set field=")


def cut_stream(stream: Any, name: str, start: int, end: int | None, told: Callable[[], None]) -> Iterator[Document]:
    """Pieces of a stream that stands at ``start``, a multiple of ``PIECE_BYTES``.

    Piece k ends at the first good place after byte (k + 1) x PIECE_BYTES, which depends on the bytes there alone: so
    ranges of one file meet without a gap.
    """
    number, ahead = start // PIECE_BYTES, stream.read(PIECE_BYTES)
    kept = ahead[_good_place(ahead) if number else 0 :]
    while ahead:
        told()
        at_end = end is not None and (number + 1) * PIECE_BYTES >= end
        ahead = stream.read(PIECE_BYTES)
        place = _good_place(ahead)
        if kept or place:
            yield Document(f"{name}#{number}", kept + ahead[:place])
        if at_end:
            return
        kept, number = ahead[place:], number + 1


def _good_place(block: bytes) -> int:
    """After the first line end of the block; else after the bytes that go on with a character."""
    line_end = block.find(b"\n", 0, _LINE_ENDS) + 1
    if line_end:
        return line_end
    return next((i for i, byte in enumerate(block[:3]) if byte & 0xC0 != 0x80), 0)
