"""Images by likelihood: exact sums, the class under which an image is likeliest, and how many are read."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from twobills.jobs.data.images import Images
from twobills.jobs.data.raster import RasterCodec, image_batches
from twobills.jobs.device import pick_device
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training import likelihood
from twobills.jobs.training.likelihood import classified, evaluate_images, readings
from twobills.jobs.training.step import TrainingStep
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.training import TrainingSpec

CODEC = RasterCodec((3, 3, 1), 4, ("dark", "bright"))
MODEL = ModelSpec(
    name="tiny",
    n_layers=2,
    d_model=32,
    n_heads=2,
    n_kv_heads=1,
    d_head=16,
    d_ff=64,
    vocab_size=CODEC.vocab_size,
    max_seq_len=CODEC.window,
    tied_embeddings=True,
)
SPEC = TrainingSpec(n_steps=40, batch_size=16, seq_len=CODEC.window, dtype=DType.FP32, heldout_tokens=0)


def some_images(n: int, seed: int) -> Images:
    """Dark images have levels 0 and 1, bright ones 2 and 3."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    levels = generator.integers(0, 2, (n, 3, 3, 1)) + 2 * labels[:, None, None, None]
    return Images(levels.astype(np.uint8), labels, tuple(map(str, range(n))))


@pytest.fixture
def step() -> Iterator[TrainingStep]:
    threads = torch.get_num_threads()
    network = Decoder(MODEL)
    network.initialise(torch.Generator().manual_seed(0))
    yield TrainingStep(network, SPEC, pick_device())
    torch.set_num_threads(threads)


def test_a_network_that_knows_nothing_pays_for_every_pixel_and_no_class(step: TrainingStep) -> None:
    with torch.no_grad():
        for parameter in step.network.parameters():
            parameter.zero_()
    images = some_images(5, seed=1)
    found = evaluate_images(step.network, images, CODEC, batch_size=3, attend=step.attend)
    assert found.nats == pytest.approx(5 * 9 * math.log(CODEC.vocab_size), rel=1e-5)
    assert found.bits_per_pixel == pytest.approx(math.log2(CODEC.vocab_size), rel=1e-5)
    assert found.n_readings == 10
    assert found.n_tokens == 10 * 11
    assert found.flops > 0


def test_the_likelihood_is_the_product_of_the_next_token_probabilities(step: TrainingStep) -> None:
    """Pixel by pixel, each from the tokens before it alone."""
    images = some_images(2, seed=2)
    total = 0.0
    for window in CODEC.tokens(images.levels, images.labels):
        for end in range(2, CODEC.window):
            tokens = torch.from_numpy(window[:end].astype(np.int64))[None]
            with torch.no_grad():
                hidden = step.network.hidden(tokens, torch.arange(end), step.attend)
                total -= float(step.network.logits(hidden)[0, -1].log_softmax(0)[window[end]])
    found = evaluate_images(step.network, images, CODEC, batch_size=4, attend=step.attend)
    assert found.nats == pytest.approx(total, rel=1e-5)


def test_batches_do_not_matter(step: TrainingStep) -> None:
    images = some_images(7, seed=3)
    one, many = (
        evaluate_images(step.network, images, CODEC, batch_size=n, attend=step.attend)._replace(flops=0, bytes=0)
        for n in (1, 100)
    )
    assert one == pytest.approx(many, rel=1e-5)


def test_a_trained_network_tells_dark_from_bright(step: TrainingStep) -> None:
    batches = image_batches(some_images(64, seed=4), CODEC, batch_size=16, seed=0)
    for i in range(SPEC.n_steps):
        step(batches[i], lr_scale=1.0)
    found = evaluate_images(step.network, some_images(40, seed=5), CODEC, batch_size=32, attend=step.attend)
    assert found.accuracy == 1.0
    assert 1.0 < found.bits_per_pixel < 1.2  # one bit is what is left to say once the class is known


def test_one_class_leaves_nothing_to_classify(step: TrainingStep) -> None:
    codec = RasterCodec((3, 3, 1), 5, ("image",))  # as many tokens as two classes of four levels
    images = some_images(4, seed=6)
    alike = Images(images.levels, np.zeros(4, np.int64), images.names)
    found = evaluate_images(step.network, alike, codec, batch_size=8, attend=step.attend)
    assert found.accuracy is None
    assert found.n_readings == 4


def test_many_readings_are_cut_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = RasterCodec((3, 3, 1), 4, tuple("0123456789"))
    monkeypatch.setattr(likelihood, "MOST_TOKENS", 3 * 10 * 11)  # an image is 11 tokens
    assert classified(1000, codec).tolist() == [0, 333, 666]
    labels = np.arange(100) % 10
    asked = readings(labels, codec)
    assert len(asked) == 3 * 10 + 97
    assert {(i, int(labels[i])) for i in range(100)} <= set(asked)
    assert len(set(asked)) == len(asked)
