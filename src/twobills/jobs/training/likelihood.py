"""Held-out images by likelihood: the bits that each pixel costs, and the class under which an image is likeliest.

Every image is read once under every class token; one network is thereby a density of images and a classifier, without a
word of training for the second (a generative classifier: Bayes' rule with equal priors). Bits per pixel are those
under the true class; the class itself is not counted. Where classes and images are many, only some images are
classified, evenly spread; the others are read under their own class.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from twobills.jobs.data.images import Images, Labels
from twobills.jobs.data.raster import RasterCodec
from twobills.jobs.nn.attention import CausalAttention
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.profile import CountBytes, count_flops

MOST_TOKENS = 2_000_000
"""Read to classify; where images times classes come to more, fewer images are classified."""


class ImageEvaluation(NamedTuple):
    """What a network makes of images it has not seen."""

    nats: float
    """Of all pixels under their images' own classes."""
    n_pixels: int
    n_values: int
    """Pixels, each channel counted."""
    n_classified: int
    """0 where there is one class only."""
    n_right: int
    n_readings: int
    """Images times the classes under which each was read."""
    n_tokens: int
    """Of all readings."""
    flops: float
    """Of the kernels that ran."""
    bytes: float

    @property
    def bits_per_pixel(self) -> float:
        """Bits that each pixel costs, all its channels together."""
        return self.nats / math.log(2) / self.n_pixels

    @property
    def accuracy(self) -> float | None:
        """The fraction whose likeliest class is their own; None if there was nothing to choose."""
        return self.n_right / self.n_classified if self.n_classified else None


class Reading(NamedTuple):
    """One image to be read under one class."""

    image: int
    label: int


def readings(labels: Labels, codec: RasterCodec) -> list[Reading]:
    """What is read: every class of the images that are classified, and the own class of the others."""
    chosen = set(classified(len(labels), codec).tolist())
    return [
        Reading(i, label)
        for i, own in enumerate(labels.tolist())
        for label in (range(len(codec.classes)) if i in chosen else (own,))
    ]


def classified(n_images: int, codec: RasterCodec) -> npt.NDArray[np.int64]:
    """Places of the images that are classified: all, or as many as the tokens allow, evenly spread."""
    if len(codec.classes) < 2:
        return np.empty(0, np.int64)
    n = min(n_images, max(1, MOST_TOKENS // (len(codec.classes) * codec.window)))
    return np.arange(n) * n_images // n


def evaluate_images(
    network: Decoder, images: Images, codec: RasterCodec, *, batch_size: int, attend: CausalAttention
) -> ImageEvaluation:
    """Reads every image as ``readings`` says, ``batch_size`` at a time."""
    asked = readings(images.labels, codec)
    nats = np.full((len(images.labels), len(codec.classes)), np.inf)
    flops = n_bytes = 0.0
    for first in range(0, len(asked), batch_size):
        part = asked[first : first + batch_size]
        rows, labels = (np.array(column, np.int64) for column in zip(*part, strict=True))
        batch = codec.batch(images.levels[rows], labels)
        if first:
            nats[rows, labels] = _nats_of_pixels(network, batch.inputs, batch.targets, attend)
            continue
        with CountBytes() as counted, count_flops() as counter:  # a row is like any other, so the first batch tells
            nats[rows, labels] = _nats_of_pixels(network, batch.inputs, batch.targets, attend)
        flops, n_bytes = counter.get_total_flops() / len(part), counted.total / len(part)
    places = classified(len(images.labels), codec)
    right = nats[places].argmin(axis=1) == images.labels[places]
    return ImageEvaluation(
        nats=float(nats[np.arange(len(nats)), images.labels].sum()),
        n_pixels=images.n_pixels,
        n_values=images.levels.size,
        n_classified=len(places),
        n_right=int(right.sum()),
        n_readings=len(asked),
        n_tokens=len(asked) * codec.window,
        flops=flops * len(asked),
        bytes=n_bytes * len(asked),
    )


@torch.no_grad()
def _nats_of_pixels(
    network: Decoder, inputs: Tensor, targets: Tensor, attend: CausalAttention
) -> npt.NDArray[np.float64]:
    """Of each row (B, W): what its pixels cost, without its class and its end."""
    device = network.lm_head.weight.device
    hidden = network.hidden(inputs.to(device), torch.arange(inputs.shape[1], device=device), attend)
    logits = network.logits(hidden)[:, 1:-1]
    losses = F.cross_entropy(logits.flatten(0, 1), targets[:, 1:-1].to(device).flatten(), reduction="none")
    return losses.view(len(inputs), -1).double().sum(dim=1).cpu().numpy()
