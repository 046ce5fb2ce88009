"""Shards: tokens on disk, read where they lie, so that data may be larger than memory.

A shard is three files: NAME.bin, the tokens as little-endian uint16 or uint32; NAME.idx, where each document starts, as
little-endian uint64; NAME.json, what both hold with their SHA-256 and the codec's digest. An optional NAME.mask has a
byte per token: 0 where a token is read but never predicted. All are written beside and renamed, the JSON last: a shard
whose JSON is there is whole, and anything else is written anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from twobills.errors import DataError
from twobills.jobs.data.codec import TokenArray

_TOKEN_TYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
STARTS = np.dtype("<u8")
Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFacts:
    """What the JSON of a shard says."""

    n_tokens: int
    n_documents: int
    n_bytes: int
    """Of the documents, before they became tokens."""
    token_type: str
    """``uint16`` or ``uint32``."""
    masked: bool
    codec_digest: str
    made_of: str
    """Names the part of the source it was made from."""
    sha256: dict[str, str]
    """Of each file, by its suffix."""


class ShardWriter:
    """Writes one shard, document by document. Nothing is there under its name until ``close``."""

    def __init__(
        self, folder: Path, name: str, *, vocab_size: int, codec_digest: str, made_of: str, masked: bool = False
    ) -> None:
        self._folder, self._name, self._codec_digest, self._made_of = folder, name, codec_digest, made_of
        self._token_type = "uint16" if vocab_size <= 1 << 16 else "uint32"
        self._files: dict[str, _Part] = {".bin": _Part(self._path(".bin"))}
        if masked:
            self._files[".mask"] = _Part(self._path(".mask"))
        self._starts, self._n_tokens, self._n_bytes = array("Q"), 0, 0

    def add(self, tokens: TokenArray, n_bytes: int, mask: Mask | None = None) -> None:
        """One document of ``n_bytes``; ``mask`` is given for every document or for none."""
        self._starts.append(self._n_tokens)
        self._files[".bin"].write(tokens.astype(_TOKEN_TYPES[self._token_type]).tobytes())
        if ".mask" in self._files:
            assert mask is not None
            assert len(mask) == len(tokens)
            self._files[".mask"].write(mask.astype(np.uint8).tobytes())
        self._n_tokens += len(tokens)
        self._n_bytes += n_bytes

    def close(self) -> ShardFacts:
        """Renames all files to their names, and says what they hold."""
        index = self._files[".idx"] = _Part(self._path(".idx"))
        index.write(np.array(self._starts, STARTS).tobytes())
        facts = ShardFacts(
            n_tokens=self._n_tokens,
            n_documents=len(self._starts),
            n_bytes=self._n_bytes,
            token_type=self._token_type,
            masked=".mask" in self._files,
            codec_digest=self._codec_digest,
            made_of=self._made_of,
            sha256={suffix: part.finish() for suffix, part in self._files.items()},
        )
        write_json(self._path(".json"), asdict(facts))
        return facts

    def abandon(self) -> None:
        """Removes what was written."""
        for part in self._files.values():
            part.abandon()

    def _path(self, suffix: str) -> Path:
        return self._folder / f"{self._name}{suffix}"


class Shard:
    """One shard, open for reading. Raises DataError, naming the file, if it is not whole or not of this codec."""

    def __init__(self, folder: Path, name: str, *, codec_digest: str) -> None:
        self._folder, self._name = folder, name
        self.facts = facts = read_facts(folder / f"{name}.json")
        if facts.codec_digest != codec_digest:
            raise DataError(f"{folder / name}.json: its tokens are of another tokenizer; delete {folder}")
        self.tokens = self._map(".bin", facts.n_tokens, _TOKEN_TYPES[facts.token_type])
        self.starts = self._map(".idx", facts.n_documents, STARTS)
        self.mask = self._map(".mask", facts.n_tokens, np.dtype(np.uint8)) if facts.masked else None

    def verify(self) -> None:
        """Reads all of it. Raises DataError, naming the file, if a byte is not what was written."""
        for suffix, expected in self.facts.sha256.items():
            path = self._folder / f"{self._name}{suffix}"
            if _sha256(path) != expected:
                raise DataError(f"{path}: is damaged (not the SHA-256 that was written); delete {self._folder}")

    def _map(self, suffix: str, n: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        path = self._folder / f"{self._name}{suffix}"
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        if size != n * dtype.itemsize:
            raise DataError(f"{path}: has {size} bytes where {n * dtype.itemsize} were written; delete {self._folder}")
        return np.memmap(path, dtype, "r", shape=(n,)) if n else np.empty(0, dtype)


def documents_of(shard: Shard) -> list[TokenArray]:
    """The documents of a small shard, in memory."""
    ends = [*shard.starts.tolist(), len(shard.tokens)]
    return [np.asarray(shard.tokens[a:b], np.int32) for a, b in pairwise(ends)]


def is_whole(folder: Path, name: str, *, codec_digest: str, made_of: str) -> bool:
    """Whether this shard was written to its end, from this part of the source, by this codec."""
    try:
        shard = Shard(folder, name, codec_digest=codec_digest)
    except DataError:
        return False
    return shard.facts.made_of == made_of


def read_facts(path: Path) -> ShardFacts:
    """What a shard's JSON says. Raises DataError, naming the file, if it cannot be understood."""
    document = read_json(path)
    try:
        facts = ShardFacts(**document)
        if facts.token_type in _TOKEN_TYPES and facts.n_tokens >= 0 and facts.n_documents >= 0:
            return facts
    except TypeError:
        pass
    raise DataError(f"{path}: is not the description of a shard; delete {path.parent}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises DataError, naming the file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise DataError(f"{path}: is damaged (not JSON); delete {path.parent}") from None
    if not isinstance(document, dict):
        raise DataError(f"{path}: is damaged (not a JSON object); delete {path.parent}")
    return document


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Writes a JSON object whole or not at all."""
    part = _Part(path)
    part.write((json.dumps(document, indent=1) + "\n").encode())
    part.finish()


class _Part:
    """A file that takes its name when it is finished."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._file: BinaryIO = self._part.open("wb")
        self._hash = hashlib.sha256()

    def write(self, content: bytes) -> None:
        self._file.write(content)
        self._hash.update(content)

    def finish(self) -> str:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._path)
        return self._hash.hexdigest()

    def abandon(self) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
