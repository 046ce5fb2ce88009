"""Cells as processes: each a fresh child on a core, or a GPU, of its own, that ends by itself if we are gone.

Children are forked from a server that has loaded PyTorch and done nothing yet, so that a process for each cell, whose
age and memory belong to its bill alone, costs milliseconds. They leave our process group: a Ctrl-C reaches us only, and
we ask them to end by SIGTERM, which waits for a checkpoint.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from twobills.errors import TwobillsError

_STOP_S = 60.0
_PRELOADED = ["twobills.flows.train"]


class Slot(NamedTuple):
    """What a child may use."""

    number: int
    cores: tuple[int, ...] = ()
    """Empty: all."""
    gpu: int | None = None


class Child:
    """One function in a process of its own."""

    def __init__(self, function: Callable[..., Any], arguments: Sequence[Any], slot: Slot) -> None:
        context: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        context.set_forkserver_preload(_PRELOADED)
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(sender, slot, function, tuple(arguments)))
        self._process.start()
        sender.close()
        self.slot = slot

    def result(self) -> Any:
        """What the function returned. Raises what it raised, TwobillsError if the process died."""
        try:
            value = self._receiver.recv()
        except EOFError:
            self._process.join()
            raise TwobillsError(
                f"a process of the sweep died (status {self._process.exitcode}); run it again"
            ) from None
        self._process.join()
        if isinstance(value, BaseException):
            raise value
        return value

    def stop(self) -> None:
        """Asks it to end, waits until it has, and kills it if it does not."""
        if self._process.is_alive() and self._process.pid:
            os.kill(self._process.pid, signal.SIGTERM)
            self._process.join(_STOP_S)
            if self._process.is_alive():
                self._process.kill()
        self._process.join()

    @property
    def receiver(self) -> Connection:
        """Readable once it has ended."""
        receiver: Connection = self._receiver
        return receiver


def any_ended(children: Sequence[Child]) -> list[Child]:
    """Waits until at least one has ended; those that have."""
    ready = wait([child.receiver for child in children])
    return [child for child in children if child.receiver in ready]


def _serve(sender: Connection, slot: Slot, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.setpgrp()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    if slot.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, slot.cores)
    if slot.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = _visible(slot.gpu)
    try:
        value: Any = function(*arguments)
    except TwobillsError as error:
        value = error
    except KeyboardInterrupt:
        value = TwobillsError("interrupted")
    except Exception as error:
        value = TwobillsError(f"{type(error).__name__}: {error}")
    with suppress(BrokenPipeError):  # whoever asked is gone
        sender.send(value)
    os._exit(0)  # taking PyTorch apart takes a second that nobody wants


def _visible(gpu: int) -> str:
    """The name of the ``gpu``-th of the GPUs that we may use."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return allowed.split(",")[gpu] if allowed else str(gpu)


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
