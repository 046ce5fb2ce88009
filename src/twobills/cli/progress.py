"""A flow's progress on stderr: stages as lines, training and serving as bars where there is a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from twobills.cli.screen import err
from twobills.flows.listener import Listener, TrainingProgress
from twobills.units import show_bytes, show_count, show_frac, show_seconds, show_usd

_LINES_EVERY = 10
"""Without a terminal: a line per so many per cent."""


class ProgressListener(Listener):
    """Draws what a flow tells; use it as a context manager."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
        )
        self._progress = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
        self._task: TaskID | None = None
        self._last_line = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if kind is KeyboardInterrupt:
            err.print("Interrupted. What was spent is in the ledger: `twobills ledger show last`")

    def stage(self, text: str) -> None:
        """A line that says what begins."""
        self._end_bar()
        err.print(f"[bold]·[/bold] {text}")

    def preparing(self, done: int, total: int) -> None:
        """The bar: data that has become tokens."""
        self._draw("preparing", done / total if total else 1.0, f"{show_bytes(done)} of {show_bytes(total)} encoded")

    def training(self, progress: TrainingProgress) -> None:
        """The bar: loss, tokens per second, MFU, money so far, time left."""
        text = (
            f"loss {progress.loss:.3f}  {show_count(progress.tokens_per_s)} tok/s  MFU {show_frac(progress.mfu)}  "
            f"{show_usd(progress.usd)} so far  {show_seconds(round(progress.remaining_s))} left"
        )
        self._draw("training", progress.progress, text)

    def serving(self, done: int, total: int) -> None:
        """The bar: requests answered."""
        self._draw("serving", done / total, f"{done} of {total} requests answered")

    def _draw(self, name: str, fraction: float, text: str) -> None:
        if not err.is_terminal:
            self._draw_line(name, fraction, text)
        elif self._task is None:
            self._task = self._progress.add_task(name, total=1.0, text=text)
            self._progress.update(self._task, completed=fraction)
        else:
            self._progress.update(self._task, completed=fraction, text=text)

    def _draw_line(self, name: str, fraction: float, text: str) -> None:
        tenth = int(100 * fraction) // _LINES_EVERY
        if tenth > self._last_line:
            self._last_line = tenth
            err.print(f"  {name} {100 * fraction:3.0f} %  {text}")

    def _end_bar(self) -> None:
        self._last_line = 0
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
