"""Images as tokens and back, by arrays, by text, and in batches that are a function of the step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from twobills.errors import DataError
from twobills.jobs.data.batch import IGNORED
from twobills.jobs.data.codec import END_OF_TEXT, Codec, Document, codec_digest
from twobills.jobs.data.images import Images
from twobills.jobs.data.raster import RasterCodec, class_token, image_batches


def some_images(n: int, codec: RasterCodec, seed: int = 0) -> Images:
    """Noise."""
    generator = np.random.default_rng(seed)
    levels = generator.integers(0, codec.n_levels, (n, *codec.shape), dtype=np.uint8)
    return Images(levels, generator.integers(0, len(codec.classes), n), tuple(f"{i}.png" for i in range(n)))


GREY = RasterCodec((2, 3, 1), 17, ("3", "big cat"))
RGB = RasterCodec((2, 2, 3), 4, ("image",))


@pytest.mark.parametrize("codec", [GREY, RGB])
def test_an_image_survives_tokens_text_and_documents(codec: RasterCodec) -> None:
    images = some_images(5, codec)
    windows = codec.tokens(images.levels, images.labels)
    assert windows.shape == (5, 2 + codec.shape[0] * codec.shape[1] * codec.shape[2])
    assert windows.max() < codec.vocab_size
    for window, levels, label in zip(windows, images.levels, images.labels, strict=True):
        pixels = codec.tokenizer.decode(window[2:].tolist())
        np.testing.assert_array_equal(codec.read(pixels), levels)
        text = class_token(codec.classes[label]) + pixels
        assert codec.tokenizer.encode(text).ids == window.tolist()
    from_documents = list(codec.encode(codec.documents(images)))
    np.testing.assert_array_equal(from_documents, windows)


def test_what_the_tokens_are() -> None:
    codec: Codec = GREY
    assert codec.vocab_size == 1 + 2 + 17
    assert codec.tokenizer.encode("<class big cat> <p00>\n<p16><p07>").tokens == [
        END_OF_TEXT,
        "<class big cat>",
        "<p00>",
        "<p16>",
        "<p07>",
    ]
    colours = RGB.tokens(np.array([[[[3, 0, 1]] * 2] * 2], np.uint8), np.array([0]))
    assert [RGB.tokenizer.id_to_token(i) for i in colours[0, :5]] == [
        END_OF_TEXT,
        "<class image>",
        "<r3>",
        "<g0>",
        "<b1>",
    ]


def test_the_tokenizer_saved_and_read_again_is_the_same(tmp_path: Path) -> None:
    GREY.tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert again.encode("<class 3> <p05>").ids == GREY.tokenizer.encode("<class 3> <p05>").ids
    assert codec_digest(GREY) == codec_digest(RasterCodec((3, 2, 1), 17, ("3", "big cat")))  # the same words
    assert codec_digest(GREY) != codec_digest(RasterCodec((2, 3, 1), 16, ("3", "big cat")))


def test_text_streams_token_by_token() -> None:
    stream = DecodeStream(skip_special_tokens=True)
    ids = GREY.tokenizer.encode("<class 3><p05><p16>").ids
    assert [stream.step(GREY.tokenizer, i) for i in ids] == [None, "<class 3>", "<p05>", "<p16>"]


@pytest.mark.parametrize("text", ["a cat", "<class dog>", "<class 3> 7", "<p17>"])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="Missing"):
        GREY.tokenizer.encode(text)


@pytest.mark.parametrize("text", ["", "<p00>" * 5, "<p00>" * 7, "<p00>" * 5 + "<class 3>", "<p00>" * 5 + "<p17>"])
def test_an_answer_that_is_no_whole_image(text: str) -> None:
    assert GREY.read(text) is None


def test_a_document_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match=r"data a.png: is no image of 6 values"):
        list(GREY.encode([Document("a.png", bytes(9))]))


def test_a_batch_predicts_class_pixels_and_end() -> None:
    images = some_images(3, GREY)
    batch = GREY.batch(images.levels, images.labels)
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    assert torch.equal(batch.inputs[:, 0], torch.zeros(3, dtype=torch.int64))
    assert torch.equal(batch.targets[:, :-1], batch.inputs[:, 1:])
    assert torch.equal(batch.targets[:, -1], torch.zeros(3, dtype=torch.int64))
    assert batch.documents is None  # a row is one image


def test_batches_are_whole_images_epoch_by_epoch() -> None:
    images = some_images(6, GREY)
    batches = image_batches(images, GREY, batch_size=4, seed=7)
    rows = [batches[step] for step in range(3)]  # two epochs of six
    inputs = torch.cat([batch.inputs for batch in rows])
    targets = torch.cat([batch.targets for batch in rows])
    every = sorted(GREY.tokens(images.levels, images.labels).tolist())
    assert sorted(inputs[:6].tolist()) == sorted(inputs[6:].tolist()) == every
    assert inputs[:6].tolist() != inputs[6:].tolist()
    assert torch.equal(targets[:, :-1], inputs[:, 1:])
    assert set(targets[:, -1].tolist()) <= {GREY.end_id, IGNORED}  # after the very last image there is nothing
    again = image_batches(images, GREY, batch_size=4, seed=7)
    assert torch.equal(again[2].inputs, rows[2].inputs)
    assert not torch.equal(image_batches(images, GREY, batch_size=4, seed=8)[0].inputs, rows[0].inputs)
    assert batches.empty_frac == 0
    assert batches.epochs(3)[0].epochs == pytest.approx(2)
