"""The working folder of a training run, ``OUT.run`` beside the model folder ``OUT``: what a resume needs, and metrics.

    run.json       the run's id, what it is of, and what was decided before its first step
    prepared.json  which tokens it learns from, and how much of the bill made them
    choices.json   how its first process chose to compute a step, by timing
    checkpoints/   the newest two
    metrics.jsonl  one line per step
    data/          what the data was made into
    processes/     a journal of each process that is alive, or that died and is not settled yet
    result.json    what came of it, once it is done

One process at a time: the folder is locked while it is open, by the kernel, which lets go of it however the process
ends. The journal begins when the folder is opened, before anything slow is loaded. Nothing here needs PyTorch.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from twobills.errors import RequestError
from twobills.ledger.journal import Journal
from twobills.meter.clock import process_age_s
from twobills.specs.job import TrainingJob

_FORMAT = 2


class Stored(NamedTuple):
    """What ``run.json`` says."""

    run_id: str
    identity: Mapping[str, str]
    task: Mapping[str, Any] | None
    """What was decided; None if the process died before."""


class Prepared(NamedTuple):
    """What ``prepared.json`` says."""

    digest: str
    """Of the tokens."""
    n_readings: int
    """Of the bill, until there were tokens."""


class RunFolder:
    """The folder of the run that writes its model to ``out``."""

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(f"{out.name}.run")
        self.checkpoints, self.data = self.path / "checkpoints", self.path / "data"
        self.metrics, self.processes = self.path / "metrics.jsonl", self.path / "processes"
        self._run, self._result = self.path / "run.json", self.path / "result.json"
        self._choices, self._prepared = self.path / "choices.json", self.path / "prepared.json"
        self.journal: Journal | None = None
        """This process's; None where nobody resumes."""

    @contextmanager
    def opened(self) -> Iterator[RunFolder]:
        """Locks the folder and begins this process's journal. Raises RequestError if another process has it."""
        new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RequestError(f"{self.path}: cannot be written to ({error.strerror}); choose another out") from None
        try:
            _lock(lock, self.path)
            with Journal(self.processes, age_s=process_age_s()) as self.journal:
                yield self
        finally:
            if new and not self._run.exists():  # nothing was begun: nothing is left
                shutil.rmtree(self.path, ignore_errors=True)
            os.close(lock)

    def stored(self) -> Stored | None:
        """The run that was begun here, None if none was. Raises RequestError if the file cannot be understood."""
        document = _read(self._run)
        if document is None:
            return None
        if document.get("format") != _FORMAT:
            raise RequestError(f"{self._run}: is not of this version of twobills; begin again with --restart")
        return Stored(document["run_id"], document["identity"], document["task"])

    def store(self, run_id: str, job: TrainingJob, task: Mapping[str, Any] | None = None) -> None:
        """Says what is run here, whole or not at all."""
        paths = [source.path and str(source.path) for source in job.data.sources]  # for people: data may have moved
        document = {
            "format": _FORMAT,
            "run_id": run_id,
            "identity": job.identity(),
            "data_paths": paths,
            "task": task,
        }
        _write(self._run, document)

    def chosen(self, choices: Mapping[str, int]) -> Mapping[str, int]:
        """How steps are computed: as the run's first process chose; that is now, if nothing is kept yet."""
        kept = _read(self._choices)
        if kept is None:
            _write(self._choices, choices)
        return choices if kept is None else kept

    def prepared(self) -> Prepared | None:
        """What the run's data turned out to be, None if no process got so far."""
        document = _read(self._prepared)
        return None if document is None else Prepared(**document)

    def keep_prepared(self, prepared: Prepared) -> None:
        """Says what the run's data is, once it is tokens."""
        _write(self._prepared, prepared._asdict())

    def result(self) -> dict[str, Any] | None:
        """The document of the run that was done here, None if it is not done."""
        return _read(self._result)

    def finish(self, document: Mapping[str, Any]) -> None:
        """Keeps what came of the run."""
        _write(self._result, document)

    def clear(self) -> None:
        """Makes room for a new run: all goes but the data, which may serve again, and the journals of the dead."""
        for path in (self._result, self._run, self._choices, self._prepared, self.metrics):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def check_same(stored: Stored, job: TrainingJob, folder: RunFolder) -> None:
    """Raises RequestError, naming the first key, if ``job`` is another than the run that was begun."""
    ours = job.identity()
    for key in sorted(ours.keys() | stored.identity.keys()):
        then, now = stored.identity.get(key), ours.get(key)
        if then != now:
            raise RequestError(
                f"{key}={now}: the run in {folder.path} was begun with {then}; --resume goes on with the same, "
                "--restart begins again"
            )


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(handle, 32, 0).decode() or "another process"
        raise RequestError(f"{path}: process {owner} is training here; wait for it, or choose another out") from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)


def _read(path: Path) -> dict[str, Any] | None:
    with suppress(FileNotFoundError):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise RequestError(f"{path}: cannot be read ({type(error).__name__}); begin again with --restart") from None
        if not isinstance(document, dict):
            raise RequestError(f"{path}: is not a description of a run; begin again with --restart")
        return document
    return None


def _write(path: Path, document: Mapping[str, Any]) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as stream:
        json.dump(document, stream)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
