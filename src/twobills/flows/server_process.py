"""A server in a process of its own, started and stopped by us: ``twobills serve`` on a free port of the loopback.

It says where it listens in its first line of output and what it did in its last. It ends when its standard input
closes, so it does not outlive us even if we are killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twobills.errors import ServerError

_STOP_S = 30.0


class ServerProcess:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process, self.url = process, url

    def stop(self) -> dict[str, Any]:
        """Asks it to end and returns what it did. Raises ServerError if it failed."""
        self._process.send_signal(signal.SIGTERM)
        try:
            output, errors = self._process.communicate(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise ServerError(f"the server did not stop within {_STOP_S:g} s of being asked to") from None
        lines = output.strip().splitlines()
        if self._process.returncode != 0 or not lines:
            raise ServerError(f"the server failed: {_last_line(errors)}")
        document: dict[str, Any] = json.loads(lines[-1])
        return document


@contextmanager
def server_process(folder: Path, *, ledger: Path, run_id: str, arguments: list[str]) -> Iterator[ServerProcess]:
    """Starts a server on the model in ``folder``, metered into ``run_id``; it is gone when the block ends."""
    command = [
        sys.executable,
        "-m",
        "twobills",
        "serve",
        str(folder),
        "--port",
        "0",
        "--json",
        "--until-stdin-closes",
    ]
    command += ["--ledger", str(ledger), "--run-id", run_id, *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True, env=dict(os.environ)
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        if not first:
            raise ServerError(f"the server did not start: {_last_line(process.communicate()[1])}")
        yield ServerProcess(process, json.loads(first)["url"])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=_STOP_S)
            except (subprocess.TimeoutExpired, ValueError):
                process.kill()
                process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
