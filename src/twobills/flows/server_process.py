"""A server in a process of its own, started and stopped by us: ``twobills serve`` on a free port of the loopback.

It says where it listens in its first line of output and what it did in its last. It ends when its standard input
closes, so it does not outlive us even if we are killed.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from twobills.errors import ServerError

_START_S = 90.0
_STOP_S = 30.0


class ServerProcess:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str], url: str) -> None:
        self._process, self._errors, self.url = process, errors, url

    def stop(self) -> dict[str, Any]:
        """Asks it to end and returns what it did. Raises ServerError if it failed."""
        self._process.send_signal(signal.SIGTERM)
        try:
            output, _ = self._process.communicate(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise ServerError(f"the server did not stop within {_STOP_S:g} s of being asked to") from None
        lines = output.strip().splitlines()
        if self._process.returncode != 0 or not lines:
            raise ServerError(f"the server failed: {_last_line(self._errors)}")
        document: dict[str, Any] = json.loads(lines[-1])
        return document


@contextmanager
def server_process(folder: Path, *, ledger: Path, run_id: str, arguments: list[str]) -> Iterator[ServerProcess]:
    """Starts a server on the model in ``folder``, metered into ``run_id``; it is gone when the block ends."""
    command = [sys.executable, "-P", "-m", "twobills", "serve", str(folder), "--port", "0", "--json"]
    command += ["--until-stdin-closes", "--ledger", str(ledger), "--run-id", run_id, *arguments]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield ServerProcess(process, errors, _ready_url(process, errors))
        finally:
            _end(process)


def _ready_url(process: subprocess.Popen[str], errors: IO[str]) -> str:
    """Where it listens, from its first line. Raises ServerError if it ends or takes too long."""
    assert process.stdout is not None
    too_long = threading.Timer(_START_S, process.kill)
    too_long.start()
    try:
        first = process.stdout.readline()
    finally:
        too_long.cancel()
    if not first:
        process.wait()
        raise ServerError(f"the server did not start: {_last_line(errors)}")
    return str(json.loads(first)["url"])


def _end(process: subprocess.Popen[str]) -> None:
    """Asks a process that still runs to end, and kills it if it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _last_line(errors: IO[str]) -> str:
    errors.seek(0)
    return (errors.read().strip().splitlines() or ["it said nothing"])[-1].removeprefix("twobills: ")
