"""Sources: which files a source consists of, what they hold, and the parts that workers read.

The default is the Python standard library's own source on this machine, without its tests: real text that every user
has. Hidden files and folders are left out, and links to folders are not followed.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from twobills.errors import DataError
from twobills.jobs.data.compressed import compression_of
from twobills.jobs.data.formats import holds_field, split_file
from twobills.jobs.data.parts import Part
from twobills.specs.data import Format, SourceSpec

PART_BYTES = 64_000_000
"""What one worker reads at a time, and what one shard is made of."""
_NOT_SOURCE = {"test", "tests", "idle_test", "site-packages", "dist-packages"}
_SUFFIXES = {".jsonl": Format.JSONL, ".ndjson": Format.JSONL, ".parquet": Format.PARQUET}
_DATASETS_FILES = {"dataset_dict.json", "dataset_info.json"}


class CorpusSource(NamedTuple):
    """One source, found."""

    name: str
    weight: float | None
    parts: tuple[Part, ...]
    n_bytes: float
    """Of its documents; an estimate if the source is large."""

    @property
    def disk_bytes(self) -> int:
        """Of its files."""
        return sum(part.n_bytes for part in self.parts)


def find_source(source: SourceSpec) -> CorpusSource:
    """A source's files, divided into parts. Raises DataError, naming the path that is wrong."""
    path = source.path
    if path is None:
        root = Path(sysconfig.get_paths()["stdlib"])
        files = [_file(root, name, source) for name in _walk(root, suffix=".py", skip=_NOT_SOURCE)]
        name = "Python standard library source"
    elif not path.exists():
        raise DataError(f"data {path}: does not exist; give a file or a folder")
    elif path.is_dir() and _is_datasets(path, source.format):
        files, name = [_dataset_folder(path, source)], str(path)
    elif path.is_dir():
        files, name = [_file(path, name, source) for name in _walk(path, suffix="", skip=set())], str(path)
    elif path.is_file():
        files, name = [_file(path.parent, path.name, source, alone=True)], str(path)
    else:
        raise DataError(f"data {path}: is neither a file nor a folder")
    parts = tuple(part for file in files for part in split_file(file, PART_BYTES))
    if not parts:
        raise DataError(f"data {name}: holds no files")
    return CorpusSource(name, source.weight, parts, 0.0)


def _file(root: Path, name: str, source: SourceSpec, *, alone: bool = False) -> Part:
    """A file as one part. Inside a folder a file that only looks like JSON lines is a text like any other."""
    path = root / name
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"data {path}: cannot be read ({error.strerror})") from None
    compression = compression_of(path)
    kind = source.format or _SUFFIXES.get(Path(path.stem if compression else path.name).suffix.lower(), Format.FILES)
    if kind is Format.DATASETS:
        raise DataError(f"data {path}: is a file; format='datasets' is a folder that save_to_disk wrote")
    if (
        source.format is None
        and not alone
        and kind is Format.JSONL
        and not holds_field(path, compression, source.field)
    ):
        kind = Format.FILES
    return Part(
        path=path,
        name=name,
        format=kind,
        field=source.field,
        compression="" if kind is Format.PARQUET else compression,
        start=0,
        end=0,
        n_bytes=status.st_size,
        file_bytes=status.st_size,
        modified_ns=status.st_mtime_ns,
    )


def _dataset_folder(path: Path, source: SourceSpec) -> Part:
    files = [file.stat() for file in sorted(path.rglob("*.arrow"))]
    size = sum(status.st_size for status in files)
    return Part(
        path=path,
        name=path.name,
        format=Format.DATASETS,
        field=source.field,
        compression="",
        start=0,
        end=0,
        n_bytes=size,
        file_bytes=size,
        modified_ns=max((status.st_mtime_ns for status in files), default=0),
    )


def _is_datasets(path: Path, asked: Format | None) -> bool:
    return asked is Format.DATASETS or (asked is None and any((path / name).is_file() for name in _DATASETS_FILES))


def _walk(root: Path, *, suffix: str, skip: set[str]) -> Iterator[str]:
    """Relative paths of the files to read, in order; hidden ones are left out."""
    for folder, folders, files in os.walk(root, onerror=_refuse):
        folders[:] = sorted(n for n in folders if n not in skip and n != "__pycache__" and not n.startswith("."))
        for file in sorted(name for name in files if name.endswith(suffix) and not name.startswith(".")):
            path = Path(folder) / file
            if path.is_file():
                yield path.relative_to(root).as_posix()


def _refuse(error: OSError) -> None:
    raise DataError(f"data {error.filename}: cannot be read ({error.strerror})")
