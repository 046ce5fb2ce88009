"""What a training job learns from: what is known before its first step, and what the tokens turned out to be.

Tokens lie in the job's ``data_cache``, which runs share, or beside the model. Those that are there already cost
nothing; the rest, and the vocabulary, are on the training bill.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twobills.flows.listener import Listener
from twobills.jobs.data.batches import Batches
from twobills.jobs.data.codec import BytesCodec
from twobills.jobs.data.corpus import Corpus, read_corpus
from twobills.jobs.data.tokenise import TokenSet, is_tokenised, tokenise
from twobills.specs.data import Modality
from twobills.specs.job import TrainingJob
from twobills.specs.training import TrainingSpec

BYTES_PER_TOKEN = 3.3
"""Assumed before the tokenizer exists: bytes of source text per token of a vocabulary of some thousands."""
_NAMES_SHOWN = 1000


def job_corpus(job: TrainingJob) -> Corpus:
    """The corpus of the job. Raises DataError, naming what is wrong with it."""
    return read_corpus(job.data)


def tokens_root(job: TrainingJob) -> Path:
    """The folder below which the job's tokens are kept."""
    return job.data.cache or job.out.with_name(f"{job.out.name}.run") / "data"


def vocab_size(job: TrainingJob) -> int:
    """Tokens that the job's model tells apart."""
    return BytesCodec.vocab_size if job.data.modality is Modality.BYTES else job.vocab_size


def bytes_per_token(job: TrainingJob) -> float:
    """Bytes of data that one token stands for, before there are tokens."""
    return 1.0 if job.data.modality is Modality.BYTES else BYTES_PER_TOKEN


def bytes_to_prepare(job: TrainingJob, corpus: Corpus) -> float:
    """Bytes that must go through the tokenizer: none if the tokens are there, or if bytes are the tokens."""
    there = is_tokenised(corpus, tokens_root(job), vocab_size=job.vocab_size)
    return 0.0 if there or job.data.modality is Modality.BYTES else corpus.training_bytes + corpus.heldout_bytes


def prepare_tokens(job: TrainingJob, corpus: Corpus, listener: Listener) -> TokenSet:
    """The job's tokens, found or made. Raises DataError, naming the file that is wrong."""
    return tokenise(corpus, tokens_root(job), vocab_size=job.vocab_size, on_progress=listener.preparing)


def job_batches(job: TrainingJob, spec: TrainingSpec, tokens: TokenSet) -> Batches:
    """The batches of the whole run, by step."""
    return Batches(
        tokens.streams,
        batch_size=spec.batch_size,
        seq_len=spec.seq_len,
        seed=spec.seed,
        packing=job.data.packing,
    )


def data_to_json(corpus: Corpus, tokens: TokenSet) -> dict[str, Any]:
    """What the data is, once it is tokens, as plain JSON."""
    return {
        "name": corpus.name,
        "modality": corpus.spec.modality.value,
        "encoding": corpus.encoding,
        "n_documents": tokens.n_documents + len(corpus.heldout),
        "n_heldout_documents": len(corpus.heldout),
        "training_bytes": tokens.n_bytes,
        "heldout_bytes": corpus.heldout_bytes,
        "n_training_tokens": tokens.n_training_tokens,
        "n_heldout_tokens": sum(len(document) for document in tokens.heldout),
        "digest": tokens.digest,
        "tokenizer_digest": tokens.codec_digest,
        "split": corpus.split,
        "heldout_documents": [document.name for document in corpus.heldout[:_NAMES_SHOWN]],
    }


def foreseen_epochs(job: TrainingJob, corpus: Corpus, n_tokens: float) -> list[dict[str, Any]]:
    """How often a run of ``n_tokens`` will see each source, as plain JSON."""
    weights = [source.weight or source.n_bytes for source in corpus.sources]
    share = corpus.training_bytes / max(1.0, sum(source.n_bytes for source in corpus.sources))
    return [
        {
            "name": source.name,
            "share": weight / sum(weights),
            "epochs": n_tokens * weight / sum(weights) / (source.n_bytes * share / bytes_per_token(job)),
        }
        for source, weight in zip(corpus.sources, weights, strict=True)
        if source.n_bytes
    ]


def seen_epochs(batches: Batches, tokens: TokenSet, n_steps: int) -> list[dict[str, Any]]:
    """How often each source was seen in so many steps, as plain JSON. Sources without a weight are seen alike."""
    seen = batches.epochs(n_steps)
    names: Sequence[str] = [stream.name for stream in tokens.streams]
    total = sum(source.seen_tokens for source in seen)
    per_stream = seen if len(seen) == len(names) else seen * len(names)
    sizes = [len(stream) for stream in tokens.streams]
    shares = (
        [source.seen_tokens / total for source in seen]
        if len(seen) == len(names)
        else [size / sum(sizes) for size in sizes]
    )
    return [
        {"name": name, "share": share, "n_tokens": size, "epochs": source.epochs}
        for name, share, size, source in zip(names, shares, sizes, per_stream, strict=True)
    ]
