"""Text to learn from: any file or folder, read as documents and split into training and held-out parts.

The default is the Python standard library's own source on this machine, without its tests: real text that every user
has. A document is held out by the hash of its relative path, so that the split does not depend on order, machine or
date. A corpus of few files is cut into pieces first. Bytes that are not UTF-8 are read as Latin-1, one character per
byte, so that any file works and nothing is lost.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from twobills.errors import DataError
from twobills.jobs.data.codec import Document

HELDOUT_EVERY = 20
"""One document in so many is held out: 5 %."""
MIN_BYTES = 50_000
MAX_BYTES = 2_000_000_000
MIN_DOCUMENTS = 40
PIECE_CHARACTERS = 8_192
_NOT_SOURCE = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


class Corpus(NamedTuple):
    """Documents, split once and for all."""

    name: str
    encoding: str
    """``utf-8``, or ``latin-1`` if any byte is not UTF-8."""
    training: list[Document]
    heldout: list[Document]
    split: str
    """How it was decided which are which."""

    @property
    def training_bytes(self) -> int:
        """Bytes to learn from."""
        return sum(len(document.content) for document in self.training)

    @property
    def heldout_bytes(self) -> int:
        """Bytes kept back."""
        return sum(len(document.content) for document in self.heldout)

    def texts(self, documents: list[Document]) -> Iterator[str]:
        """The documents as text, lossless."""
        return (document.content.decode(self.encoding) for document in documents)


def read_corpus(path: Path | None) -> Corpus:
    """The corpus at ``path``, or the standard library's source. Raises DataError, naming what is wrong."""
    if path is None:
        root = Path(sysconfig.get_paths()["stdlib"])
        documents = [*_read_folder(root, suffix=".py", skip=_NOT_SOURCE)]
        name = "Python standard library source"
    elif path.is_dir():
        documents, name = [*_read_folder(path, suffix="", skip={"__pycache__"})], str(path)
    elif path.exists() and not path.is_file():
        raise DataError(f"data {path}: is neither a file nor a folder")
    elif path.exists():
        documents, name = [Document(path.name, _read(path))], str(path)
    else:
        raise DataError(f"data {path}: does not exist; give a file or a folder")
    size = sum(len(document.content) for document in documents)
    if size < MIN_BYTES:
        raise DataError(f"data {name}: {size} bytes are too few to learn from; at least {MIN_BYTES} are needed")
    encoding = _encoding(documents)
    if len(documents) < MIN_DOCUMENTS:
        documents = [piece for document in documents for piece in _pieces(document, encoding)]
    return _split(name, encoding, documents)


def is_heldout(name: str) -> bool:
    """Whether a document of this relative path is kept back."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest(), "big") % HELDOUT_EVERY == 0


def _split(name: str, encoding: str, documents: list[Document]) -> Corpus:
    training = [document for document in documents if not is_heldout(document.name)]
    heldout = [document for document in documents if is_heldout(document.name)]
    if training and heldout:
        return Corpus(
            name, encoding, training, heldout, f"by sha256 of the relative path, 1 in {HELDOUT_EVERY} held out"
        )
    heldout = documents[::HELDOUT_EVERY]  # a hash can leave a small corpus without either side
    training = [document for i, document in enumerate(documents) if i % HELDOUT_EVERY]
    return Corpus(name, encoding, training, heldout, f"every {HELDOUT_EVERY}th held out, too few to go by hash")


def _read_folder(root: Path, *, suffix: str, skip: set[str]) -> Iterator[Document]:
    total = 0
    for folder, folders, files in os.walk(root, onerror=_refuse):
        folders[:] = sorted(name for name in folders if name not in skip and not name.startswith("."))
        for file in sorted(name for name in files if name.endswith(suffix) and not name.startswith(".")):
            path = Path(folder) / file
            try:
                if not path.is_file():
                    continue
                total += path.stat().st_size
            except OSError as error:
                raise DataError(f"data {path}: cannot be read ({error.strerror})") from None
            if total > MAX_BYTES:
                raise DataError(f"data {root}: more than {MAX_BYTES} bytes; this trainer keeps all of it in memory")
            if content := _read(path):
                yield Document(path.relative_to(root).as_posix(), content)


def _refuse(error: OSError) -> None:
    raise DataError(f"data {error.filename}: cannot be read ({error.strerror})")


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"data {path}: more than {MAX_BYTES} bytes; this trainer keeps all of it in memory")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"data {path}: cannot be read ({error.strerror})") from None


def _pieces(document: Document, encoding: str) -> Iterator[Document]:
    """Pieces of so many characters, so that none is cut in two."""
    text = document.content.decode(encoding)
    starts = range(0, len(text), PIECE_CHARACTERS)
    pieces = (text[start : start + PIECE_CHARACTERS].encode(encoding) for start in starts)
    return (Document(f"{document.name}#{i}", piece) for i, piece in enumerate(pieces))


def _encoding(documents: list[Document]) -> str:
    try:
        for document in documents:
            document.content.decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"
