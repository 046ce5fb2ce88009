"""Images as tokens: the end token, a class token, then every pixel row by row, so the next token is the next pixel.

A window is one whole image: it begins with the end token and predicts the class, every pixel and the end that follows.
So the likelihood of an image under a class is exact, a prompt of ``<class 3>`` asks for an image of that class, and an
answer ends when the image does. Levels are ``<p07>`` in grey images, ``<r07>``, ``<g07>``, ``<b07>`` in RGB.
Shapes: N images, W tokens of a window (2 + height · width · channels).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from twobills.errors import DataError
from twobills.jobs.data.batch import Batch
from twobills.jobs.data.batches import Batches
from twobills.jobs.data.codec import END_ID, END_OF_TEXT, Document, TokenArray
from twobills.jobs.data.images import Images, Labels, Levels
from twobills.jobs.data.streams import MemoryStream
from twobills.specs.data import Packing

_CHANNELS = {1: "p", 3: "rgb"}
_LABEL = struct.Struct("<I")
_SPACE_BETWEEN_TOKENS = r"\s+(?![^<>]*>)"


class RasterCodec:
    """Images of one shape, with so many levels and these classes, as tokens and back."""

    name = "images"
    end_id = END_ID

    def __init__(self, shape: tuple[int, int, int], n_levels: int, classes: Sequence[str]) -> None:
        self.shape, self.n_levels, self.classes = shape, n_levels, tuple(classes)
        self.n_values = shape[0] * shape[1] * shape[2]
        """Tokens of an image's pixels."""
        letters = _CHANNELS[shape[2]]
        digits = len(str(n_levels - 1))
        self._first_level = 1 + len(self.classes)
        words = [END_OF_TEXT, *map(class_token, self.classes)]
        words += [f"<{letter}{level:0{digits}}>" for letter in letters for level in range(n_levels)]
        self.vocab_size = len(words)
        self.tokenizer = _tokenizer(words)
        self._level_of = {word: i % n_levels for i, word in enumerate(words[self._first_level :])}
        channel = np.arange(self.n_values) % shape[2]
        self._offsets = (self._first_level + channel * n_levels).astype(np.int32)

    @property
    def window(self) -> int:
        """Tokens that a model reads of one image: the end before it, its class, its pixels."""
        return 2 + self.n_values

    def tokens(self, levels: Levels, labels: Labels) -> TokenArray:
        """Images (N, height, width, channels) as windows (N, W)."""
        windows = np.empty((len(levels), self.window), np.int32)
        windows[:, 0], windows[:, 1] = self.end_id, 1 + labels
        windows[:, 2:] = levels.reshape(len(levels), -1) + self._offsets
        return windows

    def batch(self, levels: Levels, labels: Labels) -> Batch:
        """One image a row; after its last pixel the end is predicted."""
        inputs = torch.from_numpy(self.tokens(levels, labels).astype(np.int64))
        ends = torch.full((len(inputs), 1), self.end_id)
        return Batch(inputs, torch.cat((inputs[:, 1:], ends), dim=1))

    def documents(self, images: Images) -> Iterator[Document]:
        """Images as documents: the class's number in four bytes, then the levels."""
        for name, label, levels in zip(images.names, images.labels, images.levels, strict=True):
            yield Document(name, _LABEL.pack(int(label)) + levels.tobytes())

    def encode(self, documents: Iterable[Document]) -> Iterator[TokenArray]:
        """Each document's tokens, the end token first."""
        for name, content in documents:
            if len(content) != _LABEL.size + self.n_values:
                raise DataError(f"data {name}: is no image of {self.n_values} values")
            levels = np.frombuffer(content, np.uint8, offset=_LABEL.size).reshape(1, *self.shape)
            yield self.tokens(levels, np.array(_LABEL.unpack_from(content), np.int64))[0]

    def read(self, text: str) -> Levels | None:
        """The image (height, width, channels) that an answer writes; None if it is not a whole one."""
        words = re.findall(r"<[^<>]*>", text)
        levels = [self._level_of.get(word) for word in words if word != END_OF_TEXT]
        if len(levels) != self.n_values or None in levels:
            return None
        return np.array(levels, np.uint8).reshape(self.shape)


def class_token(name: str) -> str:
    """How a class is asked for."""
    return f"<class {name}>"


def image_batches(images: Images, codec: RasterCodec, *, batch_size: int, seed: int) -> Batches:
    """Batches of whole images by step, each epoch in an order of its own."""
    stream = MemoryStream(codec.tokens(images.levels, images.labels))
    return Batches([stream], batch_size=batch_size, seq_len=codec.window, seed=seed, packing=Packing.DOCUMENTS)


def _tokenizer(words: Sequence[str]) -> Tokenizer:
    """One token a word, with or without space between them; a prompt begins with the end of what came before it."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPACE_BETWEEN_TOKENS), "removed"),
            pre_tokenizers.Split(Regex("<[^<>]*>"), "isolated"),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, END_ID)]
    )
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer
