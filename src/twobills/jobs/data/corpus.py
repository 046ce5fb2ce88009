"""Documents to learn from: any files, folders or records, found and split into training and held-out parts.

A document is held out by the hash of its name, so that the split does not depend on order, machine or date. Where
documents are few, all of them are cut into pieces first. Nothing is kept in memory but the held-out documents that are
evaluated: data may be larger than memory. What is large is not read twice: its size is estimated from samples.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from twobills.errors import DataError
from twobills.jobs.data.codec import Document
from twobills.jobs.data.formats import read_part
from twobills.jobs.data.parts import WHOLE_BYTES, Part, Read
from twobills.jobs.data.sources import CorpusSource, find_source
from twobills.specs.data import DataSpec, Format

HELDOUT_EVERY = 20
"""One document in so many is held out: 5 %."""
HELDOUT_BYTES = 2_000_000
"""Of the held-out documents so much is evaluated; the rest is kept back all the same."""
MIN_BYTES = 50_000
MIN_DOCUMENTS = 40
COUNTED_BYTES = 64_000_000
"""Data up to this size, on disk, is read once to count it; larger data is estimated."""
_N_SAMPLED = 64
"""Places of large data at which samples are taken."""
_PROBE_BYTES = 16_000_000
"""Read at all of them together to estimate the whole."""
_VERSION = 1
"""Of everything that decides which documents there are; tokens of another version are made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Documents, split once and for all."""

    name: str
    spec: DataSpec
    sources: tuple[CorpusSource, ...]
    cut: bool
    """Whether documents are few and therefore cut into pieces."""
    heldout_names: frozenset[str] | None
    """None: by hash."""
    counted: bool
    """Whether sizes are exact."""
    encoding: str
    """``utf-8``, ``latin-1`` or ``mixed``: how the documents that were looked at read as text."""
    n_training_bytes: float
    heldout: tuple[Document, ...]
    """Those that are evaluated."""

    @property
    def training_bytes(self) -> int:
        """Bytes to learn from; an estimate unless ``counted``."""
        return round(self.n_training_bytes)

    @property
    def heldout_bytes(self) -> int:
        """Bytes that are evaluated."""
        return sum(len(document.content) for document in self.heldout)

    @property
    def split(self) -> str:
        """How it was decided which are which."""
        if self.heldout_names is None:
            return f"by sha256 of the relative path, 1 in {HELDOUT_EVERY} held out"
        return f"every {HELDOUT_EVERY}th held out, too few to go by hash"

    @property
    def fingerprint(self) -> str:
        """Equal as long as the documents and their split are taken to be the same."""
        names = None if self.heldout_names is None else sorted(self.heldout_names)
        parts = [[part.fingerprint for part in source.parts] for source in self.sources]
        text = json.dumps([_VERSION, self.spec.modality, self.cut, names, parts])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def training(self, part: Part, read: Read) -> Iterator[Document]:
        """The documents of a part to learn from."""
        return (document for document in self.documents(part, read) if not self.is_heldout(document.name))

    def documents(self, part: Part, read: Read) -> Iterator[Document]:
        """All documents of a part."""
        return read_part(part, read, cut=self.cut)

    def is_heldout(self, name: str) -> bool:
        """Whether a document of this name is kept back."""
        return is_heldout(name) if self.heldout_names is None else name in self.heldout_names

    def sample(self, n_bytes: float, *, heldout: bool = False) -> Iterator[Document]:
        """At most about ``n_bytes`` of the documents of one side: all, or the first ones at places evenly spread.

        Each source gives according to its weight, or else its size.
        """
        weights = [source.weight or source.n_bytes for source in self.sources]
        for source, weight in zip(self.sources, weights, strict=True):
            yield from self._sample_source(source, n_bytes * weight / sum(weights), heldout)

    def _sample_source(self, source: CorpusSource, n_bytes: float, heldout: bool) -> Iterator[Document]:
        side = source.n_bytes * (1 / HELDOUT_EVERY if heldout else 1)
        parts = source.parts if side <= n_bytes else _spread(source.parts)
        each = float("inf") if side <= n_bytes else n_bytes / len(parts)
        for part in parts:
            taken = 0
            for document in self.documents(part, Read()):
                if self.is_heldout(document.name) == heldout:
                    yield document
                    taken += len(document.content)
                    if taken >= each:
                        break


def read_corpus(data: DataSpec | Path | None = None) -> Corpus:
    """The corpus of these sources, or of a path; by default the standard library's source.

    Raises DataError, naming what is wrong, and MissingExtraError for a format whose library is not there.
    """
    spec = data if isinstance(data, DataSpec) else DataSpec.of(data)
    sources = tuple(find_source(source) for source in spec.sources)
    name = " + ".join(source.name for source in sources)
    corpus = Corpus(
        name=name,
        spec=spec,
        sources=sources,
        cut=_are_few(sources),
        heldout_names=None,
        counted=sum(source.disk_bytes for source in sources) <= COUNTED_BYTES,
        encoding="utf-8",
        n_training_bytes=0.0,
        heldout=(),
    )
    corpus = _measured(corpus)
    if corpus.n_training_bytes < MIN_BYTES:
        size = corpus.training_bytes
        raise DataError(f"data {name}: {size} bytes are too few to learn from; at least {MIN_BYTES} are needed")
    corpus = _split(corpus)
    heldout = tuple(corpus.sample(HELDOUT_BYTES, heldout=True))
    training_bytes = corpus.n_training_bytes * (1 - 1 / HELDOUT_EVERY)
    if corpus.counted:
        training_bytes = sum(len(d.content) for s in sources for p in s.parts for d in corpus.training(p, Read()))
    return replace(corpus, heldout=heldout, n_training_bytes=float(training_bytes))


def is_heldout(name: str) -> bool:
    """Whether a document of this name is kept back."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest(), "big") % HELDOUT_EVERY == 0


def _are_few(sources: Sequence[CorpusSource]) -> bool:
    n = 0
    for part in (part for source in sources for part in source.parts):
        for _ in _names(part, cut=False):
            n += 1
            if n >= MIN_DOCUMENTS:
                return False
    return True


def _names(part: Part, *, cut: bool) -> Iterator[str]:
    """The names of a part's documents, without reading it if it is one document."""
    if part.format is Format.FILES and not cut and not part.compression and 0 < part.file_bytes <= WHOLE_BYTES:
        yield part.name
    else:
        yield from (document.name for document in read_part(part, Read(), cut=cut))


def _measured(corpus: Corpus) -> Corpus:
    """With sizes of all documents, and how they read as text."""
    found, readable = [], set()
    for source in corpus.sources:
        n_bytes = disk_bytes = 0.0
        parts = source.parts if corpus.counted else _spread(source.parts)
        for part in parts:
            read, taken = Read(), 0
            for document in corpus.documents(part, read):
                taken += len(document.content)
                readable.add(_is_utf8(document.content))
                if taken > _PROBE_BYTES / len(parts) and not corpus.counted:
                    break
            n_bytes, disk_bytes = n_bytes + taken, disk_bytes + max(1.0, read.n_bytes)
        whole = n_bytes if corpus.counted else source.disk_bytes * n_bytes / disk_bytes
        found.append(source._replace(n_bytes=whole))
    encoding = "mixed" if len(readable) > 1 else "latin-1" if readable == {False} else "utf-8"
    total = sum(source.n_bytes for source in found)
    return replace(corpus, sources=tuple(found), encoding=encoding, n_training_bytes=total)


def _split(corpus: Corpus) -> Corpus:
    """With a rule that leaves neither side empty."""
    names, sides = [], set()
    for part in (part for source in corpus.sources for part in source.parts):
        for name in _names(part, cut=corpus.cut):
            names.append(name)
            sides.add(is_heldout(name))
            if len(sides) == 2:
                return corpus
    return replace(corpus, heldout_names=frozenset(names[::HELDOUT_EVERY]))


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _spread(parts: Sequence[Part]) -> Sequence[Part]:
    return parts if len(parts) <= _N_SAMPLED else [parts[i * len(parts) // _N_SAMPLED] for i in range(_N_SAMPLED)]
