"""Where a run's metrics go: a file with one line per step, and TensorBoard or trackio where they are asked for.

The file is the truth. A resume cuts it back to the checkpoint it goes on from, so that each step is in it once; what
the others were told of steps that are done again, they are told again under the same step.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

from twobills.errors import MissingExtraError, TwobillsError

CURVE_POINTS = 300
Row = Mapping[str, float | int | bool | None]


class Watcher(Protocol):
    """Somebody who wants to see metrics."""

    def watch(self, row: Row) -> None:
        """A step was done; ``row`` has its number and what is known of it."""

    def close(self) -> None:
        """No more will come."""


class MetricsFile:
    """``metrics.jsonl``: every line is on its way to disk before the next step begins."""

    def __init__(self, path: Path, *, n_done: int) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut(path, n_done)
        self._file: TextIO = path.open("a", encoding="utf-8", buffering=1)

    def watch(self, row: Row) -> None:
        """Adds a line; what is no finite number is null."""
        known = {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in row.items()}
        try:
            self._file.write(json.dumps(known) + "\n")
        except OSError as error:
            raise TwobillsError(f"{self._path}: cannot be written ({error.strerror})") from None

    def close(self) -> None:
        """Closes the file."""
        with suppress(OSError):
            self._file.close()


class TensorBoard:
    """TensorBoard's event files, in a folder of the run."""

    def __init__(self, folder: Path) -> None:
        self._writer = _optional("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder))

    def watch(self, row: Row) -> None:
        """One scalar for each metric, at the row's step."""
        for key, value in _numbers(row):
            self._writer.add_scalar(key, value, int(row["step"] or 0))

    def close(self) -> None:
        """Flushes."""
        self._writer.close()


class Trackio:
    """A run of the local project ``twobills``, under the ledger's id. What it prints goes to stderr."""

    def __init__(self, run_id: str, config: Mapping[str, Any]) -> None:
        self._trackio = _optional("trackio", "trackio")
        quiet = {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
        with redirect_stdout(sys.stderr):
            self._trackio.init(project="twobills", name=run_id, config=dict(config), resume="allow", **quiet)

    def watch(self, row: Row) -> None:
        """All metrics at the row's step."""
        with redirect_stdout(sys.stderr):
            self._trackio.log(dict(_numbers(row)), step=int(row["step"] or 0))

    def close(self) -> None:
        """Waits until all is kept."""
        with redirect_stdout(sys.stderr):
            self._trackio.finish()


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a metrics file, without one that a kill left half written."""
    with suppress(FileNotFoundError), path.open(encoding="utf-8") as lines:
        for line in lines:
            with suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and "step" in row:
                    yield row


def curve(path: Path) -> list[dict[str, float]]:
    """The loss curve: at most ``CURVE_POINTS`` points, each the mean loss of its steps."""
    rows = list(read_rows(path))
    width = max(1, -(-len(rows) // CURVE_POINTS))
    groups = [rows[i : i + width] for i in range(0, len(rows), width)]
    return [
        {
            "step": group[-1]["step"],
            "n_tokens": group[-1]["tokens"],
            "elapsed_s": group[-1]["seconds"],
            "loss": sum(row["loss"] for row in group) / len(group),
        }
        for group in groups
    ]


def _cut(path: Path, n_done: int) -> None:
    """Leaves the lines of the first ``n_done`` steps."""
    if not path.exists():
        return
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as kept:
        kept.writelines(json.dumps(row) + "\n" for row in read_rows(path) if row["step"] <= n_done)
        kept.flush()
        os.fsync(kept.fileno())
    part.replace(path)


def _numbers(row: Row) -> Iterator[tuple[str, float]]:
    return ((key, float(x)) for key, x in row.items() if key != "step" and x is not None and math.isfinite(x))


def _optional(module: str, extra: str) -> Any:
    """A package that only this run asked for; loaded when it is asked for, as it is slow and may be absent."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(f"watch={extra!r}: {extra} is missing: pip install 'twobills[{extra}]'") from None
