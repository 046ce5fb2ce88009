"""Batches by step: which windows of which source, in which order, as a pure function of the seed and the step.

Every row of the run is one window of one source. Sources take turns by weight; a source without weights is as long as
it is, and several such are one. Within a source every epoch is a permutation of its windows, and what an epoch is
follows from the row alone. So a run can go on from any step, and any process can read its own rows of a step.
T: tokens of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from twobills.errors import DataError
from twobills.jobs.data.batch import IGNORED, Batch
from twobills.jobs.data.codec import TokenArray
from twobills.jobs.data.order import Places, Turns, hashed, permuted
from twobills.jobs.data.streams import MemoryStream, Stream
from twobills.specs.data import Packing

_EMPTY_ID = 0
"""Read where a window has ended early; its target is ``IGNORED``."""


class Epochs(NamedTuple):
    """How often a source has been seen."""

    name: str
    n_tokens: int
    """That the source has."""
    seen_tokens: int
    """That were read from it, repeats included."""

    @property
    def epochs(self) -> float:
        """Passes over the source."""
        return self.seen_tokens / self.n_tokens


class Batches:
    """The batches of a run, by step."""

    def __init__(
        self,
        streams: Sequence[Stream] | TokenArray,
        *,
        batch_size: int,
        seq_len: int,
        seed: int,
        packing: Packing = Packing.STREAM,
        with_documents: bool = False,
    ) -> None:
        """``streams`` all have a weight or none has one; an array is a source of its own.

        Raises DataError if a source is too short for one window.
        """
        if isinstance(streams, np.ndarray):
            streams = [MemoryStream([streams])]
        self._batch_size, self._seq_len, self._with_documents = batch_size, seq_len, with_documents
        kind = _Windows if packing is Packing.STREAM else _PackedWindows
        self._windows = [
            kind(stream, seq_len, seed=hashed(seed, number)) for number, stream in enumerate(_joined(streams))
        ]
        self._turns = Turns([windows.stream.weight or 1.0 for windows in self._windows])

    def __getitem__(self, step: int) -> Batch:
        """The global batch of a step, (batch_size, T)."""
        return self.rows(step, 0, 1)

    def rows(self, step: int, rank: int, n_processes: int) -> Batch:
        """The rows of the step's global batch that one of ``n_processes`` reads; see ``Batch.rows``."""
        first = step * self._batch_size + self._batch_size * rank // n_processes
        last = step * self._batch_size + self._batch_size * (rank + 1) // n_processes
        shape = last - first, self._seq_len
        inputs, targets = np.full(shape, _EMPTY_ID, np.int64), np.full(shape, IGNORED, np.int64)
        documents = np.zeros(shape, np.int64) if self._with_documents else None
        for row, (stream, start, end) in enumerate(self._spans(np.arange(first, last))):
            n = end - start
            tokens = stream.tokens(start, end + 1)
            inputs[row, :n], targets[row, : len(tokens) - 1] = tokens[:n], tokens[1:]
            if stream.masked:
                predicted = stream.mask(start + 1, end + 1)
                targets[row, : len(predicted)][predicted == 0] = IGNORED
            if documents is not None:
                documents[row, :n] = _numbered(stream.starts(start, end) - start, n)
                documents[row, n:] = documents[row, n - 1] + 1
        return Batch(
            torch.from_numpy(inputs),
            torch.from_numpy(targets),
            None if documents is None else torch.from_numpy(documents),
        )

    def _spans(self, rows: Places) -> list[tuple[Stream, int, int]]:
        """For each row of the run its source, and where in it the row's window starts and ends."""
        sources, numbers = self._turns(rows)
        starts, ends = np.empty_like(rows), np.empty_like(rows)
        for source in np.unique(sources):
            mine = sources == source
            starts[mine], ends[mine] = self._windows[source].spans(numbers[mine])
        streams = [self._windows[source].stream for source in sources]
        return [*zip(streams, starts.tolist(), ends.tolist(), strict=True)]

    def epochs(self, n_steps: int) -> list[Epochs]:
        """How often each source has been seen after so many steps."""
        seen = []
        for source, windows in enumerate(self._windows):
            n_rows = self._turns.rows_of(source, n_steps * self._batch_size)
            seen.append(Epochs(windows.stream.name, len(windows.stream), round(n_rows * windows.tokens_per_window)))
        return seen

    @property
    def empty_frac(self) -> float:
        """Of all places in all windows, those without a token."""
        shares = [float(share) for share in self._turns.shares]
        filled = sum(s * w.tokens_per_window for s, w in zip(shares, self._windows, strict=True))
        return 1 - filled / self._seq_len


class _Windows:
    """Windows of one length, anywhere in the stream; every epoch begins them at another offset."""

    def __init__(self, stream: Stream, seq_len: int, *, seed: int) -> None:
        if len(stream) < 2 * seq_len + 1:
            named = f" {stream.name}" if stream.name else ""
            raise DataError(f"data{named}: {len(stream)} tokens are too few for windows of {seq_len}; give more text")
        self.stream, self._seq_len, self._seed = stream, seq_len, seed
        self.n = (len(stream) - 1 - seq_len) // seq_len
        self.tokens_per_window = float(seq_len)

    def spans(self, numbers: Places) -> tuple[Places, Places]:
        """Where the windows that come ``numbers``-th start and end."""
        offsets = np.empty_like(numbers)
        for epoch in np.unique(numbers // self.n):
            offsets[numbers // self.n == epoch] = hashed(self._seed, int(epoch)) % self._seq_len
        starts = offsets + self._seq_len * _shuffled(numbers, self.n, self._seed)
        return starts, starts + self._seq_len


class _PackedWindows:
    """Windows of whole documents, as many as fit; only a document longer than a window is cut."""

    def __init__(self, stream: Stream, seq_len: int, *, seed: int) -> None:
        if not len(stream):
            raise DataError(f"data {stream.name}: has no tokens; give more text")
        self.stream, self._seed = stream, seed
        self._starts = _packed(stream.starts(0, len(stream)), len(stream), seq_len)
        self.n = len(self._starts) - 1
        self.tokens_per_window = len(stream) / self.n

    def spans(self, numbers: Places) -> tuple[Places, Places]:
        """Where the windows that come ``numbers``-th start and end."""
        windows = _shuffled(numbers, self.n, self._seed)
        return self._starts[windows], self._starts[windows + 1]


def _shuffled(numbers: Places, n: int, seed: int) -> Places:
    """Which of n windows comes ``numbers``-th; every n numbers are an epoch with an order of its own."""
    epochs, found = numbers // n, np.empty_like(numbers)
    for epoch in np.unique(epochs):
        mine = epochs == epoch
        found[mine] = permuted(numbers[mine] % n, n, hashed(seed, int(epoch), 1))
    return found


def _packed(starts: Places, n_tokens: int, seq_len: int) -> Places:
    """Where windows start, and the end of the last: 8 bytes for each window are kept."""
    edges, found, at, i = np.append(starts, n_tokens), [0], 0, 0
    while at < n_tokens:
        i = int(np.searchsorted(edges[i:], at + seq_len, side="right")) + i - 1
        at = int(edges[i]) if edges[i] > at else at + seq_len
        found.append(at)
    return np.array(found, np.int64)


def _joined(streams: Sequence[Stream]) -> list[Stream]:
    """The streams that take turns: those without a weight are one, as long as all of them."""
    if len(streams) > 1 and all(stream.weight is None for stream in streams):
        return [Stream.join(streams)]
    return list(streams)


def _numbered(starts: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """For each of n places, how many documents have started up to it."""
    begins = np.zeros(n, np.int64)
    begins[starts] = 1
    return np.cumsum(begins)
