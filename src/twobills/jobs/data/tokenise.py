"""Tokens of a corpus, made once and kept: a vocabulary where one is learned, then shards, then a JSON that names them.

The folder's name follows from the sources' files (names, sizes, times of change), the split and the codec, so that a
cache of several runs never mixes two. The JSON is written last: a folder that has it is whole, and one that lacks it is
gone on with.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from twobills.errors import DataError
from twobills.jobs.data.codec import (
    BytesCodec,
    Codec,
    TextCodec,
    TokenArray,
    codec_digest,
    decode_text,
    read_tokenizer,
    train_tokenizer,
)
from twobills.jobs.data.corpus import Corpus
from twobills.jobs.data.shard_maker import OnProgress, ShardMaker, grouped, n_threads
from twobills.jobs.data.shards import Shard, documents_of, read_json, write_json
from twobills.jobs.data.streams import Stream
from twobills.specs.data import Modality

SAMPLE_BYTES = 32_000_000
"""A vocabulary is learned from at most so much text."""
MANIFEST = "data.json"
TOKENIZER = "tokenizer.json"
HELDOUT = "heldout"
_VERSION = 1
_ABANDONED_S = 3600.0


class TokenSet(NamedTuple):
    """A corpus as tokens, on disk."""

    folder: Path
    codec: Codec
    codec_digest: str
    digest: str
    """Names all tokens, their order and the codec."""
    streams: tuple[Stream, ...]
    """To learn from, one for each source."""
    heldout: list[TokenArray]
    n_documents: int
    """To learn from."""
    n_bytes: int
    """Of those documents, exactly."""

    @property
    def n_training_tokens(self) -> int:
        """Of all sources."""
        return sum(len(stream) for stream in self.streams)


def token_folder(corpus: Corpus, root: Path, *, vocab_size: int, codec: Codec | None = None) -> Path:
    """Where the tokens of this corpus are, or will be, below ``root``."""
    made_by = codec_digest(codec) if codec else [corpus.spec.modality, vocab_size, SAMPLE_BYTES]
    text = f"{_VERSION} {corpus.fingerprint} {made_by}"
    return root / hashlib.sha256(text.encode()).hexdigest()[:16]


def is_tokenised(corpus: Corpus, root: Path, *, vocab_size: int, codec: Codec | None = None) -> bool:
    """Whether ``tokenise`` will find everything done."""
    return (token_folder(corpus, root, vocab_size=vocab_size, codec=codec) / MANIFEST).exists()


def tokenise(
    corpus: Corpus,
    root: Path,
    *,
    vocab_size: int,
    codec: Codec | None = None,
    on_progress: OnProgress | None = None,
) -> TokenSet:
    """The corpus as tokens, made now or found below ``root``. ``codec`` is learned from the corpus if none is given.

    Raises DataError, naming the file, if what is found is damaged or what is read cannot be.
    """
    folder = token_folder(corpus, root, vocab_size=vocab_size, codec=codec)
    if (folder / MANIFEST).exists():
        return open_tokens(folder, codec=codec, weights=_weights(corpus))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        return _make(corpus, folder, vocab_size, codec, on_progress)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be written ({error.strerror})") from None


def open_tokens(
    folder: Path, *, codec: Codec | None = None, weights: Sequence[float | None] | None = None, verify: bool = True
) -> TokenSet:
    """The tokens in a folder that ``tokenise`` made. Raises DataError, naming the file, if one is damaged.

    ``weights`` are those of the sources, which take no part in making the tokens. ``codec``, if it is known already,
    must be the one that made them. ``verify`` reads all of them once and compares their SHA-256.
    """
    manifest = read_json(folder / MANIFEST)
    try:
        found = codec or _codec(manifest["codec"]["name"], folder)
        digest, wanted = codec_digest(found), manifest["codec"]["digest"]
        if digest != wanted:
            raise DataError(f"{folder / TOKENIZER}: did not make the tokens beside it; delete {folder}")
        sources = [(source["name"], source["shards"]) for source in manifest["sources"]]
        n_documents, n_bytes, whole = manifest["n_documents"], manifest["n_bytes"], manifest["digest"]
    except (KeyError, TypeError):
        raise DataError(f"{folder / MANIFEST}: is damaged (keys are missing); delete {folder}") from None
    shards = {name: Shard(folder, name, codec_digest=digest) for _, names in sources for name in names}
    heldout = Shard(folder, HELDOUT, codec_digest=digest)
    if _digest(digest, [*shards.values(), heldout]) != whole:
        raise DataError(f"{folder / MANIFEST}: does not belong to the shards beside it; delete {folder}")
    if verify:
        with ThreadPoolExecutor(n_threads()) as pool:
            [*pool.map(Shard.verify, [*shards.values(), heldout])]
    streams = tuple(
        Stream([shards[n] for n in names], name=name, weight=weight)
        for (name, names), weight in zip(sources, weights or [None] * len(sources), strict=True)
    )
    return TokenSet(folder, found, digest, whole, streams, documents_of(heldout), n_documents, n_bytes)


def learn_codec(corpus: Corpus, vocab_size: int) -> Codec:
    """A codec for the corpus: of text, a vocabulary learned from its training documents."""
    if corpus.spec.modality is Modality.BYTES:
        return BytesCodec()
    texts = (decode_text(document.content) for document in corpus.sample(SAMPLE_BYTES))
    return TextCodec(train_tokenizer(texts, vocab_size))


def _make(
    corpus: Corpus, folder: Path, vocab_size: int, codec: Codec | None, on_progress: OnProgress | None
) -> TokenSet:
    codec = codec or _kept_codec(corpus, folder, vocab_size)
    maker = ShardMaker(corpus, folder, codec)
    maker.write(HELDOUT, corpus.heldout)
    sources = [
        (source, [(f"train-{i:02d}-{j:05d}", group) for j, group in enumerate(grouped(source.parts))])
        for i, source in enumerate(corpus.sources)
    ]
    maker.write_all([shard for _, shards in sources for shard in shards], on_progress)
    facts = [maker.facts[name] for _, shards in sources for name, _ in shards]
    manifest: dict[str, Any] = {
        "version": _VERSION,
        "codec": {"name": codec.name, "digest": maker.digest, "vocab_size": codec.vocab_size},
        "sources": [
            {
                "name": source.name,
                "shards": [name for name, _ in shards],
                "n_tokens": sum(maker.facts[name].n_tokens for name, _ in shards),
            }
            for source, shards in sources
        ],
        "n_documents": sum(fact.n_documents for fact in facts),
        "n_bytes": sum(fact.n_bytes for fact in facts),
        "n_tokens": sum(fact.n_tokens for fact in facts),
    }
    names = [name for _, shards in sources for name, _ in shards]
    opened = [Shard(folder, name, codec_digest=maker.digest) for name in [*names, HELDOUT]]
    write_json(folder / MANIFEST, {**manifest, "digest": _digest(maker.digest, opened)})
    return open_tokens(folder, codec=codec, weights=_weights(corpus), verify=maker.found_some)


def _kept_codec(corpus: Corpus, folder: Path, vocab_size: int) -> Codec:
    """The codec that an interrupted run learned, or one learned now and kept."""
    path = folder / TOKENIZER
    if path.exists():
        return _codec(corpus.spec.modality, folder)
    codec = learn_codec(corpus, vocab_size)
    part = folder / f".{TOKENIZER}.{os.getpid()}.part"
    codec.tokenizer.save(str(part))
    part.replace(path)
    return codec


def _sweep(folder: Path) -> None:
    """Removes what processes that were killed had half written; another one may be writing just now."""
    for part in folder.glob(".*.part"):
        with suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > _ABANDONED_S:
                part.unlink()


def _weights(corpus: Corpus) -> list[float | None]:
    return [source.weight for source in corpus.sources]


def _codec(name: str, folder: Path) -> Codec:
    if name == BytesCodec.name:
        return BytesCodec()
    return TextCodec(read_tokenizer(folder / TOKENIZER))


def _digest(codec: str, shards: Sequence[Shard]) -> str:
    digests = [shard.facts.sha256[suffix] for shard in shards for suffix in sorted(shard.facts.sha256)]
    return hashlib.sha256(" ".join([codec, *digests]).encode()).hexdigest()
