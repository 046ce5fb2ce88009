"""Files as streams of bytes, compressed or not: .gz .bz2 .xz and, where there is a library for it, .zst.

A file is taken for compressed if its name says so and its first bytes agree.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from twobills.errors import DataError, MissingExtraError

_FIRST_BYTES = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\x00", ".zst": b"\x28\xb5\x2f\xfd"}
_BLOCK_BYTES = 1 << 17


class OpenFile(NamedTuple):
    """A file that is being read."""

    stream: BinaryIO
    """Its content."""
    raw: BinaryIO
    """The file itself, whose position says how much has been read."""


def compression_of(path: Path) -> str:
    """The suffix of the compression, or nothing. Raises DataError if the file cannot be read."""
    suffix = path.suffix.lower()
    if suffix not in _FIRST_BYTES:
        return ""
    with reading(path), path.open("rb") as file:
        first = file.read(len(_FIRST_BYTES[suffix]))
    return suffix if first == _FIRST_BYTES[suffix] else ""


@contextmanager
def opened(path: Path, compression: str) -> Iterator[OpenFile]:
    """The file's content. Raises DataError, naming the file, if it cannot be read, is damaged or is cut short."""
    with reading(path), path.open("rb") as raw:
        if not compression:
            yield OpenFile(raw, raw)
            return
        with _OPEN[compression](raw) as stream:
            yield OpenFile(stream, raw)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What goes wrong inside with this file is one line that names it."""
    try:
        yield
    except EOFError:
        raise DataError(f"data {path}: is cut short") from None
    except (zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(f"data {path}: is damaged ({error})") from None
    except OSError as error:
        if error.errno is None:  # of a library that unpacks, not of the machine
            raise DataError(f"data {path}: is damaged ({error})") from None
        raise DataError(f"data {path}: cannot be read ({error.strerror})") from None


def _gzip(raw: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(fileobj=raw))


def _zstd(raw: BinaryIO) -> BinaryIO:
    if find_spec("zstandard") is not None:
        library = import_module("zstandard")
        return io.BufferedReader(_Zstd(raw, lambda: library.ZstdDecompressor().decompressobj()))
    if find_spec("compression") is not None:  # Python 3.14
        return io.BufferedReader(_Zstd(raw, import_module("compression.zstd").ZstdDecompressor))
    raise MissingExtraError("reading .zst files needs a library: pip install zstandard")


_OPEN: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    ".gz": _gzip,
    ".bz2": lambda raw: cast(BinaryIO, bz2.BZ2File(raw)),
    ".xz": lambda raw: cast(BinaryIO, lzma.LZMAFile(raw)),  # noqa: SIM115  (its caller closes it)
    ".zst": _zstd,
}


class _Zstd(io.RawIOBase):
    """Frame after frame; unlike the libraries' own readers it notices when the last one is cut short."""

    def __init__(self, raw: BinaryIO, start_frame: Callable[[], Any]) -> None:
        self._raw, self._start_frame = raw, start_frame
        self._frame: Any = None
        self._packed = self._unpacked = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._unpacked:
            block, self._packed = self._packed or self._raw.read(_BLOCK_BYTES), b""
            if not block:
                if self._frame is not None:
                    raise EOFError
                return 0
            if self._frame is None:
                self._frame = self._start_frame()
            try:
                self._unpacked = self._frame.decompress(block)
            except Exception as error:  # the libraries have an error each
                raise OSError(str(error)) from None
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        n = min(len(buffer), len(self._unpacked))
        buffer[:n], self._unpacked = self._unpacked[:n], self._unpacked[n:]
        return n
