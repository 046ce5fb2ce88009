"""The thread that owns the engine: takes requests, steps while there is work, hands text to the web server.

Nothing else touches the engine. Requests and departures come in through a queue; what a step generated goes
out in one call into the asyncio loop per step, not per token. While nothing is there the thread sleeps, and
the meter charges that time to its resting phase. Text is made here, so that a stop string ends an answer
before another token is computed for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from twobills.errors import ServerError, TwobillsError
from twobills.jobs.inference.engine import Engine, Output
from twobills.jobs.server.metrics import ServerMetrics
from twobills.jobs.server.text import TextStream
from twobills.meter.meter import Meter
from twobills.serving.request import FinishReason, Request
from twobills.usage import Usage


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to an answer: more text, or its end."""

    index: int
    """Which of the client's answers."""
    text: str = ""
    finish_reason: FinishReason | None = None
    n_tokens: int = 0
    """Tokens generated in all, with the end."""
    usage: Usage | None = None
    """What is attributed to the answer, with the end."""
    error: str | None = None


@dataclass(slots=True, eq=False)
class Answer:
    """One answer being made: its request, its text so far, and where its events go."""

    request: Request
    text: TextStream
    index: int
    events: asyncio.Queue[Event]


class EngineLoop:
    """Runs an engine in its own thread between ``start`` and ``stop``."""

    def __init__(self, engine: Engine, meter: Meter | None = None) -> None:
        self.engine, self.meter = engine, meter
        self.tokenizer = engine.loaded.tokenizer()
        self.metrics = ServerMetrics(engine, meter)
        self.failure: str | None = None
        """Why the engine stopped working, if it did."""
        self._wake = threading.Condition()
        self._arrived: deque[Answer] = deque()
        self._left: deque[str] = deque()
        self._answers: dict[str, Answer] = {}
        self._stopping = self._closed = False
        self._thread: threading.Thread | None = None
        self._asyncio: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Starts the thread; call it inside the asyncio loop that is to receive the events."""
        self._asyncio = asyncio.get_running_loop()
        self._stopping = self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Aborts what is unfinished and ends the thread. Raises ServerError if it does not end in time."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                raise ServerError(f"the engine did not stop within {timeout_s:g} s")
            self._thread = None

    def submit(self, answers: Iterable[Answer]) -> None:
        """Queues answers; their events come to their queues. Raises ServerError if the engine has ended."""
        with self._wake:
            if self._closed:
                raise ServerError(self.failure or "the server is stopping")
            self._arrived.extend(answers)
            self._wake.notify()

    def leave(self, request_ids: Iterable[str]) -> None:
        """The client left: its unfinished answers end."""
        with self._wake:
            self._left.extend(request_ids)
            self._wake.notify()

    def _run(self) -> None:
        n_threads = torch.get_num_threads()
        torch.set_num_threads(self.engine.spec.n_threads or n_threads)
        try:
            while self._wait_for_work():
                self._take_in()
                self._deliver([self._event(output) for output in self.engine.step()])
        except Exception as error:  # whatever it was, clients that wait must hear of it
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            torch.set_num_threads(n_threads)  # part of the setting is the whole process's
        self._end_all()

    def _wait_for_work(self) -> bool:
        """Sleeps until there is something to do; False to end."""
        with self._wake:
            if not (self.engine.has_work or self._arrived or self._left or self._stopping):
                self.engine.rest()
                # Woken now and then so that the meter of an idle server is never far behind.
                while not self._wake.wait_for(self._has_news, timeout=1.0):
                    self.engine.rest()
                self.engine.rest()
            return not self._stopping

    def _has_news(self) -> bool:
        return bool(self._arrived or self._left or self._stopping)

    def _take_in(self) -> None:
        with self._wake:
            arrived, left = list(self._arrived), list(self._left)
            self._arrived.clear()
            self._left.clear()
        refused = []
        for answer in arrived:
            try:
                self.engine.add(answer.request)
                self._answers[answer.request.id] = answer
            except TwobillsError as error:
                refused.append((answer, Event(answer.index, error=str(error))))
        self._deliver(refused)
        for request_id in left:
            if gone := self._answers.pop(request_id, None):
                self.engine.abort(request_id)
                self.metrics.finished(gone.request)

    def _event(self, output: Output) -> tuple[Answer, Event]:
        request = output.request
        answer = self._answers[request.id]
        text = answer.text.push(output.token_id)
        usage = output.usage
        if answer.text.stopped and not output.finished:
            usage = self.engine.abort(request.id, FinishReason.STOP)
        self.metrics.token(request, self.engine.clock())
        if request.finish_reason is None:
            return answer, Event(answer.index, text)
        del self._answers[request.id]
        self.metrics.finished(request)
        text += answer.text.flush()
        reason = FinishReason.STOP if answer.text.stopped else request.finish_reason
        return answer, Event(answer.index, text, reason, len(request.output_token_ids), usage)

    def _deliver(self, events: list[tuple[Answer, Event]]) -> None:
        """Hands events to their queues, in the asyncio loop's thread; a token without text waits."""
        worth = [(a, e) for a, e in events if e.text or e.finish_reason or e.error]
        if worth and self._asyncio and not self._asyncio.is_closed():
            self._asyncio.call_soon_threadsafe(_hand_out, worth)

    def _end_all(self) -> None:
        reason = self.failure or "the server is stopping"
        with self._wake:
            self._closed = True
            unfinished = [*self._answers.values(), *self._arrived]
            self._arrived.clear()
        for answer in unfinished:
            self.engine.abort(answer.request.id)
            self.metrics.finished(answer.request)
        self._answers.clear()
        self.engine.rest()
        self._deliver([(answer, Event(answer.index, error=reason)) for answer in unfinished])


def _hand_out(events: list[tuple[Answer, Event]]) -> None:
    for answer, event in events:
        answer.events.put_nowait(event)


Price = Callable[[Usage], float]
"""Dollars of a usage."""
