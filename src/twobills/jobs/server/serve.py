"""Running the server: bind first, say when it is ready, end gracefully.

The socket is bound before anything is started, so that a taken port is one line at once. SIGINT and SIGTERM
let what is in flight finish for a few seconds; then the call returns, so that its caller can still close
the books.
"""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from twobills.errors import ServerError

GRACE_S = 5
"""How long requests in flight may go on after a signal, s."""
_START_S = 30.0


def run_server(
    app: FastAPI, host: str, port: int, on_ready: Callable[[str], None] = lambda _: None
) -> signal.Signals | None:
    """Serves until SIGINT or SIGTERM and returns which; port 0 takes any free one. ``on_ready`` gets the URL.

    Raises ServerError if the address cannot be had or the application did not start.
    """
    with _bind(host, port) as bound:
        server = _Server(app, lambda: on_ready(_url(host, bound)))
        server.run(sockets=[bound])
    if not server.was_ready:
        raise ServerError(f"the server did not start on {host}:{port}")
    return server.ended_by


@contextlib.contextmanager
def background_server(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves from another thread of this process while the body runs; gives the URL.

    Raises ServerError if the address cannot be had or the application did not start.
    """
    ready = threading.Event()
    with _bind(host, port) as bound:
        server = _Server(app, ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="server", daemon=True)
        thread.start()
        try:
            while not ready.wait(0.05):
                if not thread.is_alive():
                    raise ServerError(f"the server did not start on {host}:{port}")
            yield _url(host, bound)
        finally:
            server.should_exit = True
            thread.join(GRACE_S + _START_S)


class _Server(uvicorn.Server):
    """Uvicorn that says when it is ready, and keeps the signal that ended it instead of raising it again."""

    def __init__(self, app: FastAPI, on_ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=GRACE_S
        )
        super().__init__(config)
        self._on_ready = on_ready
        self.was_ready = False
        self.ended_by: signal.Signals | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to accept, then says so."""
        await super().startup(sockets)
        if self.started:
            self.was_ready = True
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles signals while serving, if this is the main thread; the second SIGINT does not wait."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.ended_by = signal.Signals(number)
        self.handle_exit(number, frame)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(2048)
    except (OSError, OverflowError) as error:
        bound.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            message = f"port {port} is in use; choose another with --port, or --port 0 for any free one"
            raise ServerError(message) from None
        raise ServerError(f"cannot listen on {host}:{port} ({error}); choose another --host or --port") from None
    return bound


def _url(host: str, bound: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{bound.getsockname()[1]}"
