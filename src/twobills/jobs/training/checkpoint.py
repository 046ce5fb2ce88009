"""Checkpoints that are there whole or not at all, and are read back only if every byte is the one that was written.

PyTorch's distributed checkpoint writes the tensors, one file for each process, so that another number of processes
can read them. They are written to ``.step-N.part``, flushed to disk and renamed to ``step-N``; a kill leaves a part
that nobody reads. ``state.json`` beside them says which run they belong to and has a checksum of every file, because
PyTorch itself loads a flipped bit without a word. The newest two are kept: if the newest is damaged, the one
before it is used.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from twobills.errors import CheckpointError

KEPT = 2
_FORMAT = 1
_STATE = "state.json"
_CHUNK_BYTES = 1 << 24


class Checkpoint(NamedTuple):
    """One that is whole."""

    folder: Path
    step: int
    """Steps that were done."""
    notes: Mapping[str, Any]
    """What ``save`` was given beside the tensors."""
    identity: Mapping[str, str]
    """What the run that wrote it was of."""


class Checkpoints:
    """The checkpoints of one run, in one folder. In a process group every process calls every method."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self, step: int, tensors: Mapping[str, Tensor], *, identity: Mapping[str, str], notes: Mapping[str, Any]
    ) -> None:
        """Writes the state after ``step`` steps and lets go of all but the newest ``KEPT``.

        Raises CheckpointError, and leaves the earlier ones as they are, if it cannot be written.
        """
        part, final = self.folder / f".step-{step}.part", self.folder / f"step-{step:09d}"
        try:
            if _rank() == 0:
                self._remove_leftovers()
                part.mkdir(parents=True)
            _barrier()
            _write_tensors(part, tensors)
            sums = _gather({file.name: _checksum(file) for file in _files_of(part, _rank())})
            if _rank() == 0:
                state = {"format": _FORMAT, "step": step, "n_processes": _n_processes(), "files": sums}
                _write_state(part / _STATE, {**state, "identity": dict(identity), "notes": dict(notes)})
                self._put_in_place(part, final)
                self._let_go()
            _barrier()
        except (OSError, CheckpointException) as error:
            shutil.rmtree(part, ignore_errors=True)
            raise CheckpointError(self._cannot_write(step, error)) from None

    def newest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest that is whole, None if there has been none. Says what is wrong with each that it passes over.

        Raises CheckpointError if there are some and none is whole.
        """
        found = self._folders()
        for folder in found:
            try:
                return _read(folder)
            except _DamagedError as damage:
                warn(f"checkpoint {folder}: {damage}; it is not used")
        if found:
            raise CheckpointError(f"{self.folder}: no checkpoint is whole; begin again with --restart")
        return None

    def load(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
        """Copies a checkpoint's tensors into ``tensors``. Raises CheckpointError if those are of another network."""
        load(checkpoint, tensors)

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are kept, the newest first."""
        return [_step_of(folder) for folder in self._folders()]

    def _folders(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), key=_step_of, reverse=True)

    def _put_in_place(self, part: Path, final: Path) -> None:
        if final.exists():  # one that was damaged, or of the same step: this one is whole
            self._retire(final)
        part.rename(final)
        _flush_folder(self.folder)

    def _let_go(self) -> None:
        for folder in self._folders()[KEPT:]:
            self._retire(folder)

    def _retire(self, folder: Path) -> None:
        """Removes one; renamed first, so that a kill never leaves half of one under its name."""
        gone = folder.with_name(f".{folder.name}.gone")
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        for leftover in (*self.folder.glob(".step-*.part"), *self.folder.glob(".step-*.gone")):
            shutil.rmtree(leftover, ignore_errors=True)

    def _cannot_write(self, step: int, error: BaseException) -> str:
        kept = self.steps()
        of = f"that of step {kept[0]} is kept" if kept else "there is none before it"
        return f"{self.folder}: the checkpoint of step {step} cannot be written ({_reason(error)}); {of}"


def load(checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
    """Copies a checkpoint's tensors into ``tensors``. Raises CheckpointError if those are of another network."""
    reader = FileSystemReader(checkpoint.folder)
    stored = {
        name: tuple(of.size)
        for name, of in reader.read_metadata().state_dict_metadata.items()
        if isinstance(of, TensorStorageMetadata)
    }
    if difference := _difference(stored, {name: tuple(tensor.shape) for name, tensor in tensors.items()}):
        raise CheckpointError(f"checkpoint {checkpoint.folder}: of another network: {difference}")
    state = dict(tensors)
    with _quiet():
        state_dict_loader.load(state, storage_reader=reader, no_dist=not dist.is_initialized())


def check_identity(checkpoint: Checkpoint, expected: Mapping[str, str]) -> None:
    """Raises CheckpointError, naming the first difference, if the checkpoint is of another run than ``expected``."""
    for key, ours in expected.items():
        theirs = checkpoint.identity.get(key)
        if theirs != ours:
            raise CheckpointError(
                f"checkpoint {checkpoint.folder}: its {key} is {theirs}, this run's is {ours}; "
                "nothing was changed; resume it with what it was begun with, or begin again with --restart"
            )


class _DamagedError(Exception):
    """A checkpoint is not the one that was written; the message says how."""


def _read(folder: Path) -> Checkpoint:
    try:
        text, crc = (folder / _STATE).read_text(encoding="utf-8").splitlines()
        if zlib.crc32(text.encode()) != int(crc):
            raise _DamagedError(f"{_STATE} is damaged (not the bytes that were written)")
        state = json.loads(text)
        files, step = state["files"], state["step"]
        found = Checkpoint(folder, step, state["notes"], state["identity"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _DamagedError(f"{_STATE} cannot be read ({type(error).__name__})") from None
    if state["format"] != _FORMAT or step != _step_of(folder):
        raise _DamagedError(f"{_STATE} is of format {state['format']} and step {step}")
    for name, written in files.items():
        try:
            now = _checksum(folder / name)
        except OSError as error:
            raise _DamagedError(f"{name} cannot be read ({error.strerror})") from None
        if now != written:
            same = now["bytes"] == written["bytes"]
            cut = "not the bytes that were written" if same else f"{now['bytes']} of {written['bytes']} bytes"
            raise _DamagedError(f"{name} is damaged ({cut})")
    return found


def _write_tensors(part: Path, tensors: Mapping[str, Tensor]) -> None:
    writer = FileSystemWriter(part, sync_files=True)
    with _quiet():
        state_dict_saver.save(dict(tensors), storage_writer=writer, no_dist=not dist.is_initialized())


def _quiet() -> warnings.catch_warnings[None]:
    """Outside a process group PyTorch warns that there is none."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)


def _files_of(part: Path, rank: int) -> Iterator[Path]:
    """The files that this process wrote."""
    yield from part.glob(f"__{rank}_*")
    if rank == 0:
        yield part / ".metadata"


def _checksum(file: Path) -> dict[str, int]:
    crc = n_bytes = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            crc, n_bytes = zlib.crc32(chunk, crc), n_bytes + len(chunk)
    return {"bytes": n_bytes, "crc32": crc}


def _write_state(file: Path, state: Mapping[str, Any]) -> None:
    """One line of JSON, one line with its checksum; on disk, with the folder's list of files, before this returns."""
    text = json.dumps(state)
    with file.open("w", encoding="utf-8") as stream:
        stream.write(f"{text}\n{zlib.crc32(text.encode())}\n")
        stream.flush()
        os.fsync(stream.fileno())
    _flush_folder(file.parent)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _step_of(folder: Path) -> int:
    number = folder.name.removeprefix("step-")
    return int(number) if number.isdigit() else -1


def _difference(stored: Mapping[str, tuple[int, ...]], ours: Mapping[str, tuple[int, ...]]) -> str:
    """The first tensor that differs, in words; empty if none does."""
    for name in sorted(stored.keys() | ours.keys()):
        if stored.get(name) != ours.get(name):
            has, wants = (str(of[name]) if name in of else "absent" for of in (stored, ours))
            return f"{name} is {has} there and {wants} here"
    return ""


def _reason(error: BaseException) -> str:
    """The cause in a few words: PyTorch wraps what the disk said into a page."""
    failures = getattr(error, "failures", {})
    inner = next((failure[0] for failure in failures.values()), error)
    chain = [inner, inner.__cause__, inner.__context__]
    on_disk = next((e for e in chain if isinstance(e, OSError) and e.errno), None)
    if on_disk is not None:
        return os.strerror(on_disk.errno or errno.EIO)
    return next(iter(str(inner).strip().splitlines()[:1]), type(inner).__name__)


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _n_processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


def _gather(mine: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Everybody's entries together, on every process."""
    if not dist.is_initialized():
        return mine
    all_of_them: list[Any] = [None] * _n_processes()
    dist.all_gather_object(all_of_them, mine)
    return {name: of for entries in all_of_them for name, of in entries.items()}
