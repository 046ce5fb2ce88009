"""What a training job learns from: what is known before its first step, and what the tokens turned out to be.

Tokens lie in the job's ``data_cache``, which runs share, or beside the model. Those that are there already cost
nothing; the rest, and the vocabulary, are on the training bill.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twobills.counts.training_memory import rows_at_once
from twobills.errors import RequestError
from twobills.flows.image_data import (
    CHAT_TEMPLATE,
    IMAGE_SHAPE,
    beside_images,
    image_codec,
    image_plan_note,
    image_quality,
    image_tokens,
    images_to_json,
    measure_images,
    most_image_steps,
    reading_tokens,
)
from twobills.flows.listener import Listener
from twobills.jobs.data.batches import Batches
from twobills.jobs.data.codec import BytesCodec
from twobills.jobs.data.corpus import Corpus, read_corpus
from twobills.jobs.data.images import ImageCorpus, read_images
from twobills.jobs.data.tokenise import TokenSet, is_tokenised, tokenise
from twobills.jobs.training.evaluate import bits_per_byte, evaluate, gzip_bits_per_byte, xz_bits_per_byte
from twobills.jobs.training.loop import Trainer
from twobills.meter.meter import WorkTally
from twobills.specs.data import Modality, Packing
from twobills.specs.job import DEFAULT_SEQ_LEN, TrainingJob
from twobills.specs.model import ModelSpec
from twobills.specs.training import TrainingSpec

BYTES_PER_TOKEN = 3.3
"""Assumed before the tokenizer exists: bytes of source text per token of a vocabulary of some thousands."""
_NAMES_SHOWN = 1000
AnyCorpus = Corpus | ImageCorpus
"""What a job may learn from."""


def job_corpus(job: TrainingJob) -> AnyCorpus:
    """The corpus of the job. Raises DataError or RequestError, naming what is wrong with it or does not fit it."""
    if job.data.modality is not Modality.IMAGES:
        return read_corpus(job.data)
    images = read_images(job.data.sources[0].path, job.data.levels)
    fitted_job(job, images)  # said before anything is begun
    return images


def fitted_job(job: TrainingJob, corpus: AnyCorpus) -> TrainingJob:
    """The job with what the data decides: a window of images is one image, and their vocabulary is fixed.

    Raises RequestError for a job that says otherwise.
    """
    if not isinstance(corpus, ImageCorpus):
        return job
    codec = image_codec(corpus)
    if job.seq_len not in (DEFAULT_SEQ_LEN, codec.window):
        raise RequestError(f"seq_len={job.seq_len}: a window is one whole image, {codec.window} tokens; leave it out")
    return replace(job, seq_len=codec.window, vocab_size=codec.vocab_size, model=job.model or IMAGE_SHAPE)


def most_steps(job: TrainingJob, corpus: AnyCorpus) -> int | None:
    """Steps at which minutes end, however many they are; None if there is no such end."""
    return most_image_steps(corpus, job.batch_size) if isinstance(corpus, ImageCorpus) else None


def tokens_root(job: TrainingJob) -> Path:
    """The folder below which the job's tokens are kept."""
    return job.data.cache or job.out.with_name(f"{job.out.name}.run") / "data"


def plan_note(job: TrainingJob, corpus: AnyCorpus, model: ModelSpec, n_steps: int) -> str | None:
    """What neither the user nor a law of size decided, in words; None if nothing."""
    if not isinstance(corpus, ImageCorpus):
        return None
    ends_early = not (job.steps or job.tokens) and n_steps == most_steps(job, corpus)
    return image_plan_note(model.name, job.model, ends_early=ends_early)


def vocab_size(job: TrainingJob) -> int:
    """Tokens that the job's model tells apart."""
    return BytesCodec.vocab_size if job.data.modality is Modality.BYTES else job.vocab_size


def bytes_per_token(job: TrainingJob) -> float:
    """Bytes of data that one token stands for, before there are tokens."""
    return BYTES_PER_TOKEN if job.data.modality is Modality.TEXT else 1.0


def heldout_tokens(job: TrainingJob, corpus: AnyCorpus) -> float:
    """Tokens that measuring quality once reads, as foreseen."""
    return reading_tokens(corpus) if isinstance(corpus, ImageCorpus) else corpus.heldout_bytes / bytes_per_token(job)


def tokens_are_kept(job: TrainingJob, corpus: AnyCorpus) -> bool:
    """Whether tokens that were made before will be taken; those of images never lie on a disk."""
    if isinstance(corpus, ImageCorpus):
        return False
    return is_tokenised(corpus, tokens_root(job), vocab_size=job.vocab_size)


def bytes_to_prepare(job: TrainingJob, corpus: AnyCorpus) -> float:
    """Bytes that must go through the tokenizer: none if the tokens are there, or if bytes or pixels are the tokens."""
    if isinstance(corpus, ImageCorpus):
        return 0.0
    return (
        0.0
        if tokens_are_kept(job, corpus) or job.data.modality is Modality.BYTES
        else corpus.training_bytes + corpus.heldout_bytes
    )


def prepare_tokens(job: TrainingJob, corpus: AnyCorpus, listener: Listener) -> TokenSet:
    """The job's tokens, found or made. Raises DataError, naming the file that is wrong."""
    if isinstance(corpus, ImageCorpus):
        return image_tokens(corpus)
    return tokenise(corpus, tokens_root(job), vocab_size=job.vocab_size, on_progress=listener.preparing)


def forget_tokens(job: TrainingJob) -> None:
    """Removes the tokens of a job that nobody goes on with, unless they lie in a cache: the next one makes its own."""
    if job.data.cache is None:
        shutil.rmtree(tokens_root(job), ignore_errors=True)


def job_batches(job: TrainingJob, spec: TrainingSpec, tokens: TokenSet) -> Batches:
    """The batches of the whole run, by step."""
    return Batches(
        tokens.streams,
        batch_size=spec.batch_size,
        seq_len=spec.seq_len,
        seed=spec.seed,
        packing=Packing.DOCUMENTS if job.data.modality is Modality.IMAGES else job.data.packing,
        with_documents=job.data.packing is Packing.DOCUMENTS,
    )


def measure_quality(trainer: Trainer, corpus: AnyCorpus, tokens: TokenSet, tally: WorkTally) -> dict[str, float]:
    """Quality on held-out data as plain JSON; what measuring it used goes to ``tally``."""
    network, spec = trainer.network, trainer.spec
    if isinstance(corpus, ImageCorpus):
        images = measure_images(network, corpus, trainer.attend)
        tally.add(tokens=images.n_tokens, flops=images.flops, bytes=images.bytes)
        return image_quality(images)
    by_hand = network.lm_head.weight.device.type == "cpu"
    n_rows = rows_at_once(spec.batch_size, spec.seq_len, spec.accumulate, by_hand=by_hand)  # what fits in training does
    text = evaluate(network, tokens.heldout, batch_size=n_rows, seq_len=spec.seq_len, attend=trainer.attend)
    tally.add(tokens=text.n_tokens, flops=text.flops, bytes=text.bytes)
    return {
        "heldout_bits_per_byte": bits_per_byte(text.nats, corpus.heldout_bytes),
        "heldout_nats_per_token": text.nats / text.n_tokens,
    }


def beside_the_model(corpus: AnyCorpus) -> dict[str, Any]:
    """What the model's quality is compared with, as plain JSON."""
    if isinstance(corpus, ImageCorpus):
        return beside_images(corpus)
    heldout = [*corpus.heldout]
    return {"gzip_bits_per_byte": gzip_bits_per_byte(heldout), "xz_bits_per_byte": xz_bits_per_byte(heldout)}


def chat_template(corpus: AnyCorpus) -> str | None:
    """How a chat becomes a prompt of the model, if it is not text that anybody may continue."""
    return CHAT_TEMPLATE if isinstance(corpus, ImageCorpus) else None


def data_to_json(corpus: AnyCorpus, tokens: TokenSet) -> dict[str, Any]:
    """What the data is, once it is tokens, as plain JSON."""
    if isinstance(corpus, ImageCorpus):
        return images_to_json(corpus, tokens)
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


def foreseen_epochs(job: TrainingJob, corpus: AnyCorpus, n_tokens: float) -> list[dict[str, Any]]:
    """How often a run of ``n_tokens`` will see each source, as plain JSON."""
    if isinstance(corpus, ImageCorpus):
        epochs = n_tokens / (len(corpus.training.labels) * job.seq_len)
        return [{"name": corpus.name, "share": 1.0, "epochs": epochs}]
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
