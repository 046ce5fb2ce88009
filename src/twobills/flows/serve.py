"""Serving alone: a run of its own in the ledger, or a part of the run that started this process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twobills.counts.params import count_params
from twobills.flows.accounts import account
from twobills.flows.machine import find_machine
from twobills.flows.serving_job import serve
from twobills.jobs.inference.weights import LoadedModel
from twobills.ledger.store import Ledger
from twobills.specs.dtype import DType


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeRequest:
    """What ``twobills serve`` was asked to do."""

    folder: Path
    host: str
    port: int
    model_name: str | None
    dtype: DType | None
    usd_per_chip_hour: float | None
    run_id: str | None
    """The run that this serving is a part of; None opens one."""
    until_stdin_closes: bool
    """Whether to stop when whoever started this process is gone."""


Hear = Callable[[dict[str, Any]], None]


def run_serve(request: ServeRequest, ledger: Ledger, on_ready: Hear, on_end: Hear) -> None:
    """Serves until stopped. ``on_ready`` hears url, model and digest, ``on_end`` digests and bill.

    SIGTERM is the ordinary end. SIGINT is too, but raises KeyboardInterrupt after ``on_end``, as Ctrl-C does anywhere.
    """

    def ready(url: str, loaded: LoadedModel) -> None:
        n_params = count_params(loaded.spec).total
        name = request.model_name or request.folder.resolve().name
        checked = loaded.manifest is not None
        ready_document = {"event": "ready", "url": url, "model": name, "n_params": n_params, "digest": loaded.digest}
        on_ready({**ready_document, "digest_checked": checked})

    if request.until_stdin_closes:
        _stop_with_stdin()
    with _run(request, ledger) as run_id:
        served = serve(
            request.folder,
            host=request.host,
            port=request.port,
            found=find_machine(request.usd_per_chip_hour),
            ledger=ledger,
            run_id=run_id,
            on_ready=ready,
            model_name=request.model_name,
            dtype=request.dtype,
        )
        on_end({"run_id": run_id, **served.to_json()})
        if served.stopped_by == signal.SIGINT:
            raise KeyboardInterrupt


@contextmanager
def _run(request: ServeRequest, ledger: Ledger) -> Iterator[str]:
    if request.run_id is not None:
        yield request.run_id
        return
    with account(ledger, "serve", {"folder": str(request.folder), "port": request.port}) as run_id:
        yield run_id


def _stop_with_stdin() -> None:
    def wait() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="until stdin closes", daemon=True).start()
