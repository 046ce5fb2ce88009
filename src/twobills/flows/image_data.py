"""Images in the two jobs: defaults instead of text's, what is measured, what is asked of the model.

The laws of size were fitted on text, so images get a stated shape instead of a choice, and the plan ends after so many
passes at the latest: both were found on a validation part of the digits' training images, which held-out images had no
part in, and are assumed for other images. ``docs/log.md`` has the trials.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from twobills.jobs.data.codec import codec_digest
from twobills.jobs.data.images import ImageCorpus, Images
from twobills.jobs.data.packed import packed_bits_per_pixel
from twobills.jobs.data.raster import RasterCodec, class_token
from twobills.jobs.data.streams import MemoryStream
from twobills.jobs.data.tokenise import TokenSet
from twobills.jobs.nn.attention import CausalAttention
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.likelihood import ImageEvaluation, classified, evaluate_images, readings
from twobills.specs.data import Modality
from twobills.specs.workload import Workload

IMAGE_SHAPE: Mapping[str, int] = {
    "n_layers": 4,
    "d_model": 64,
    "n_heads": 2,
    "n_kv_heads": 2,
    "d_head": 32,
    "d_ff": 192,
}
"""The model, if the job names none."""
MOST_EPOCHS = 9
"""Passes over the training images; more of them learnt the digits by heart."""
EVALUATE_TOKENS = 8_192
"""Of one batch of readings, about."""
CHAT_TEMPLATE = "{{ bos_token }}{{ messages[-1]['content'] }}"
"""A chat with a model of images: the last message is its prompt."""
TEMPERATURE = 0.8
ASKED_TOKENS = 19_200
"""Pixels that the main job asks for, about: 300 digits."""
MOST_REQUESTS, LEAST_PER_CLASS = 300, 1
_NAMES_SHOWN = 1000
N_REAL, N_DRAWN, MOST_ROWS = 3, 10, 20


def image_codec(corpus: ImageCorpus) -> RasterCodec:
    """How these images become tokens."""
    return RasterCodec(corpus.shape, corpus.n_levels, corpus.classes)


def image_tokens(corpus: ImageCorpus) -> TokenSet:
    """All images as tokens, in memory; making them takes no time worth keeping them on disk for."""
    codec, training = image_codec(corpus), corpus.training
    windows, heldout = (codec.tokens(side.levels, side.labels) for side in (training, corpus.heldout))
    named = codec_digest(codec)
    digest = hashlib.sha256(named.encode() + windows.tobytes() + heldout.tobytes()).hexdigest()
    stream = MemoryStream(windows, name=corpus.name)
    size = training.levels.nbytes
    return TokenSet(Path(), codec, named, digest, (stream,), list(heldout), len(training.labels), size)


def codec_of_model(manifest: Mapping[str, Any] | None) -> RasterCodec | None:
    """How a frozen model writes images, by its manifest; None if it is none of images, or not ours."""
    data = ((manifest or {}).get("lineage") or {}).get("data") or {}
    if data.get("modality") != Modality.IMAGES:
        return None
    return RasterCodec((data["height"], data["width"], data["n_channels"]), data["n_levels"], data["classes"])


def image_plan_note(name: str, shape: Mapping[str, Any], *, ends_early: bool) -> str | None:
    """What the plan decided for images by rules of their own, in words; None if nothing."""
    said = []
    if shape == IMAGE_SHAPE:
        said.append(f"Images get the shape {name}, as the laws of size were fitted on text")
    if ends_early:
        said.append(f"training ends after {MOST_EPOCHS} passes over them, as more would learn them by heart")
    if not said:
        return None
    words = "; ".join(said)
    return f"{words[0].upper()}{words[1:]}. Found on the digits, assumed for other images."


def most_image_steps(corpus: ImageCorpus, batch_size: int) -> int:
    """Optimiser steps after which a model would only learn the images by heart."""
    return -(-MOST_EPOCHS * len(corpus.training.labels) // batch_size)


def reading_tokens(corpus: ImageCorpus) -> int:
    """Tokens that measuring quality reads."""
    codec = image_codec(corpus)
    return len(readings(corpus.heldout.labels, codec)) * codec.window


def image_quality(found: ImageEvaluation) -> dict[str, float]:
    """What was measured, as plain JSON."""
    quality = {"heldout_bits_per_pixel": found.bits_per_pixel, "heldout_nats_per_token": found.nats / found.n_values}
    return quality if found.accuracy is None else {**quality, "heldout_accuracy": found.accuracy}


def beside_images(corpus: ImageCorpus) -> dict[str, Any]:
    """What the model is compared with, as plain JSON: compressors, and always naming the commonest class."""
    labels, n_classes = corpus.heldout.labels, len(corpus.classes)
    classification = {
        "n_images": len(classified(len(labels), image_codec(corpus))),
        "n_classes": n_classes,
        "commonest_frac": float(np.bincount(labels).max() / len(labels)),
        **({"reason": "all images are of one class"} if n_classes == 1 else {}),
    }
    return {**packed_bits_per_pixel(corpus.heldout), "classification": classification}


def measure_images(network: Decoder, corpus: ImageCorpus, attend: CausalAttention) -> ImageEvaluation:
    """Reads the held-out images under every class."""
    codec = image_codec(corpus)
    batch_size = max(1, EVALUATE_TOKENS // codec.window)
    return evaluate_images(network, corpus.heldout, codec, batch_size=batch_size, attend=attend)


def images_to_json(corpus: ImageCorpus, tokens: TokenSet) -> dict[str, Any]:
    """What was learnt from, as plain JSON, with the keys that text has too."""
    training, heldout, codec = corpus.training, corpus.heldout, image_codec(corpus)
    n_training, n_heldout = len(training.labels), len(heldout.labels)
    height, width, n_channels = corpus.shape
    return {
        "modality": "images",
        "name": corpus.name,
        "encoding": corpus.encoding,
        "height": height,
        "width": width,
        "n_channels": n_channels,
        "n_levels": corpus.n_levels,
        "quantised": corpus.quantised,
        "classes": list(corpus.classes),
        "n_documents": n_training + n_heldout,
        "n_heldout_documents": n_heldout,
        "training_bytes": corpus.training_bytes,
        "heldout_bytes": corpus.heldout_bytes,
        "n_training_tokens": n_training * codec.window,
        "n_heldout_tokens": n_heldout * codec.window,
        "digest": tokens.digest,
        "tokenizer_digest": tokens.codec_digest,
        "split": corpus.split,
        "heldout_documents": list(heldout.names[:_NAMES_SHOWN]),
    }


def image_workload(corpus: ImageCorpus) -> Workload:
    """The load on a model of images: each request asks for one image of a class."""
    n_values = image_codec(corpus).n_values
    n_requests = min(MOST_REQUESTS, max(LEAST_PER_CLASS * len(corpus.classes), ASKED_TOKENS // n_values))
    return Workload(n_requests=n_requests, prompt_tokens=2, answer_tokens=n_values, concurrency=16)


def image_prompts(corpus: ImageCorpus, workload: Workload) -> list[str]:
    """One class after the other, in turn."""
    return [class_token(corpus.classes[i % len(corpus.classes)]) for i in range(workload.n_requests)]


def pictures(corpus: ImageCorpus, answers: Sequence[str | None]) -> dict[str, Any]:
    """Real and drawn images by class, for the report. ``answers`` follow ``image_prompts``; None was not answered."""
    codec, n_classes = image_codec(corpus), len(corpus.classes)
    drawn = [None if answer is None else codec.read(answer) for answer in answers]
    rows = [
        {
            "class": name,
            "real": [levels.tolist() for levels in _of_class(corpus.heldout, label)],
            "drawn": [None if image is None else image.tolist() for image in drawn[label::n_classes][:N_DRAWN]],
        }
        for label, name in enumerate(corpus.classes[:MOST_ROWS])
    ]
    return {
        "shape": list(corpus.shape),
        "n_levels": corpus.n_levels,
        "temperature": TEMPERATURE,
        "asked": len(answers),
        "whole": sum(image is not None for image in drawn),
        "rows": rows,
    }


def _of_class(images: Images, label: int) -> Any:
    return images.levels[images.labels == label][:N_REAL]
