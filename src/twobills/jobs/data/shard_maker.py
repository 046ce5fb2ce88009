"""Making shards in parallel, where they are not there yet.

By threads: the library that encodes text lets go of Python's lock and uses all cores by itself; what is left to Python,
copying token numbers, was measured at 2 % of the CPU seconds, so processes would win nothing below some dozens of
cores. What a shard holds depends on its part of the source and on the codec alone: so two runs that fill the same cache
at once do no harm, and a run that was killed goes on with the shards that it had not finished.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

from twobills.errors import DataError
from twobills.jobs.data.codec import Codec, Document, codec_digest
from twobills.jobs.data.corpus import Corpus
from twobills.jobs.data.parts import Part, Read
from twobills.jobs.data.shards import Shard, ShardFacts, ShardWriter, is_whole
from twobills.jobs.data.sources import PART_BYTES

_MOST_THREADS = 4
_TOLD_EVERY_S = 0.2
OnProgress = Callable[[int, int], None]
"""Hears how many bytes of how many, on disk, have become tokens."""


class ShardMaker:
    """Writes the shards of one corpus and one codec that are not there yet."""

    def __init__(self, corpus: Corpus, folder: Path, codec: Codec) -> None:
        self._corpus, self._folder, self._codec = corpus, folder, codec
        self.digest = codec_digest(codec)
        self.facts: dict[str, ShardFacts] = {}
        self.found_some = False
        self._stop = Event()

    def write_all(self, shards: Sequence[tuple[str, tuple[Part, ...]]], on_progress: OnProgress | None) -> None:
        """Shards of training documents, each from its parts."""
        total = sum(part.n_bytes for _, parts in shards for part in parts)
        reads = [[(part, Read()) for part in parts] for _, parts in shards]
        with ThreadPoolExecutor(n_threads(), thread_name_prefix="tokens") as pool:
            try:
                running = [
                    pool.submit(self._write_parts, name, of) for (name, _), of in zip(shards, reads, strict=True)
                ]
                for task in running:
                    while not _ended(task, _TOLD_EVERY_S):
                        if on_progress is not None:
                            on_progress(int(sum(read.n_bytes for of in reads for _, read in of)), total)
                    task.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        if on_progress is not None:
            on_progress(total, total)

    def write(self, name: str, documents: Sequence[Document]) -> None:
        """A shard of documents in memory."""
        hashes = [hashlib.sha256(document.content).hexdigest() for document in documents]
        self._write(name, hashlib.sha256("".join(hashes).encode()).hexdigest(), iter(documents))

    def _write_parts(self, name: str, parts: Sequence[tuple[Part, Read]]) -> None:
        made_of = hashlib.sha256(repr([part.fingerprint for part, _ in parts]).encode("utf-8", "replace")).hexdigest()
        self._write(name, made_of, (document for part, read in parts for document in self._corpus.training(part, read)))
        for part, read in parts:
            read.n_bytes = part.n_bytes

    def _write(self, name: str, made_of: str, documents: Iterator[Document]) -> None:
        if is_whole(self._folder, name, codec_digest=self.digest, made_of=made_of):
            self.found_some = True
            self.facts[name] = Shard(self._folder, name, codec_digest=self.digest).facts
            return
        writer = ShardWriter(
            self._folder, name, vocab_size=self._codec.vocab_size, codec_digest=self.digest, made_of=made_of
        )
        try:
            sizes = list[int]()
            for i, tokens in enumerate(self._codec.encode(_counting(documents, sizes))):
                if self._stop.is_set():
                    raise DataError("tokens: stopped because another part could not be read")
                writer.add(tokens, sizes[i])
            self.facts[name] = writer.close()
        except BaseException:
            writer.abandon()
            raise


def _counting(documents: Iterator[Document], sizes: list[int]) -> Iterator[Document]:
    for document in documents:
        sizes.append(len(document.content))
        yield document


def _ended(task: Future[None], within_s: float) -> bool:
    try:
        task.result(timeout=within_s)
    except TimeoutError:
        return bool(task.done())
    return True


def grouped(parts: Sequence[Part]) -> list[tuple[Part, ...]]:
    """Parts that make one shard each: small ones together."""
    groups: list[list[Part]] = [[]]
    size = 0
    for part in parts:
        if size and size + part.n_bytes > PART_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(part)
        size += part.n_bytes
    return [tuple(group) for group in groups]


def n_threads() -> int:
    """Threads that make or check shards."""
    return min(_MOST_THREADS, os.cpu_count() or 1)
