"""Streams: the tokens of one source as a single row, wherever its shards lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from twobills.jobs.data.codec import TokenArray
from twobills.jobs.data.shards import STARTS, Mask, Shard, ShardFacts


class Stream:
    """The shards of one source, one after the other, as a single row of tokens."""

    def __init__(self, shards: Sequence[Shard], *, name: str = "", weight: float | None = None) -> None:
        self.name, self.weight = name, weight
        self._shards = [shard for shard in shards if len(shard.tokens)]
        self._firsts = np.cumsum([0, *(len(shard.tokens) for shard in self._shards)])

    @classmethod
    def join(cls, streams: Sequence[Stream]) -> Stream:
        """Several sources as one."""
        return cls([shard for stream in streams for shard in stream._shards], name=" + ".join(s.name for s in streams))

    def __len__(self) -> int:
        return int(self._firsts[-1])

    @property
    def n_bytes(self) -> int:
        """Of the documents, before they became tokens."""
        return sum(shard.facts.n_bytes for shard in self._shards)

    @property
    def n_documents(self) -> int:
        """Documents in all shards."""
        return sum(len(shard.starts) for shard in self._shards)

    @property
    def masked(self) -> bool:
        """Whether some tokens are read but never predicted."""
        return any(shard.mask is not None for shard in self._shards)

    def tokens(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """The tokens from place ``first`` up to ``last``."""
        parts = [shard.tokens[a:b] for shard, a, b in self._parts(first, last)]
        return np.concatenate(parts, dtype=np.int64)

    def mask(self, first: int, last: int) -> Mask:
        """1 where the token at a place may be predicted."""
        parts = [
            np.ones(b - a, np.uint8) if shard.mask is None else shard.mask[a:b]
            for shard, a, b in self._parts(first, last)
        ]
        return np.concatenate(parts)

    def starts(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """The places from ``first`` up to ``last`` at which a document starts."""
        found = []
        for shard, a, b in self._parts(first, last):
            i, j = np.searchsorted(shard.starts, [a, b])
            found.append(shard.starts[i:j].astype(np.int64) - a)
        offsets = np.cumsum([0, *(b - a for _, a, b in self._parts(first, last))])[:-1]
        return np.concatenate([np.empty(0, np.int64), *(s + o + first for s, o in zip(found, offsets, strict=True))])

    def _parts(self, first: int, last: int) -> list[tuple[Shard, int, int]]:
        i = int(np.searchsorted(self._firsts, first, side="right")) - 1
        parts = []
        while i < len(self._shards) and self._firsts[i] < last:
            start = int(self._firsts[i])
            shard = self._shards[i]
            parts.append((shard, max(first - start, 0), min(last - start, len(shard.tokens))))
            i += 1
        return parts


class MemoryStream(Stream):
    """Tokens in memory, as if they were a source."""

    def __init__(self, documents: Iterable[TokenArray], *, name: str = "", weight: float | None = None) -> None:
        super().__init__([_InMemory([*documents])], name=name, weight=weight)


class _InMemory(Shard):
    def __init__(self, documents: list[TokenArray]) -> None:
        self.tokens = np.concatenate([np.empty(0, np.int32), *documents])
        self.starts = np.cumsum([0, *(len(document) for document in documents)])[:-1].astype(STARTS)
        self.mask = None
        self.facts = ShardFacts(
            n_tokens=len(self.tokens),
            n_documents=len(documents),
            n_bytes=0,
            token_type="uint32",
            masked=False,
            codec_digest="",
            made_of="",
            sha256={},
        )
