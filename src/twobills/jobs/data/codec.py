"""Codecs: how documents become tokens, and the tokenizer that the model's folder keeps so that others can do the same.

Every modality has one: text learns a byte-pair vocabulary, bytes have one token each. Whatever a codec's documents
are, its ``tokenizer`` is one of the ``tokenizers`` library, so that every program that opens the folder reads and
writes the same tokens. Every document begins with the end token: a model sees where one stops and the next begins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from twobills.errors import DataError

END_OF_TEXT = "<|end|>"
END_ID = 0
N_BYTES = 256
ENCODE_AT_ONCE_BYTES = 4_000_000
"""Documents are encoded in groups of about so many bytes: enough for all cores, little enough for memory."""
TokenArray = npt.NDArray[np.int32]


class Document(NamedTuple):
    """One text, picture or recording, or a piece of one."""

    name: str
    """Relative path, with ``#n`` for the n-th piece, ``@n`` for the record at byte or row n."""
    content: bytes


class Codec(Protocol):
    """Documents to tokens."""

    name: str
    """``text``, ``bytes``, ..."""
    vocab_size: int
    end_id: int
    tokenizer: Tokenizer
    """What is saved in the model's folder."""

    def encode(self, documents: Iterable[Document]) -> Iterator[TokenArray]:
        """Each document's tokens in order, the end token first. Lazy: documents may be more than memory holds."""
        ...


class TextCodec:
    """Byte-level BPE. A document that is not UTF-8 is read as Latin-1, one character per byte."""

    name = "text"

    def __init__(self, tokenizer: Tokenizer) -> None:
        end_id = tokenizer.token_to_id(END_OF_TEXT)
        if end_id is None:
            raise DataError(f"tokenizer: has no token {END_OF_TEXT!r}; was it made by another program?")
        self.tokenizer, self.end_id = tokenizer, int(end_id)
        self.vocab_size: int = tokenizer.get_vocab_size()
        self._plain = Tokenizer.from_str(tokenizer.to_str())
        self._plain.encode_special_tokens = True  # a text that speaks of "<|end|>" does not end there

    def encode(self, documents: Iterable[Document]) -> Iterator[TokenArray]:
        """Each document's tokens, the end token first."""
        for group in _groups(documents, ENCODE_AT_ONCE_BYTES):
            texts = [decode_text(document.content) for document in group]
            for encoding in self._plain.encode_batch_fast(texts, add_special_tokens=False):
                yield np.array([self.end_id, *encoding.ids], dtype=np.int32)


class BytesCodec:
    """One token for each byte, whatever the bytes mean. As text, a byte is the Latin-1 character of its number."""

    name = "bytes"
    end_id = END_ID
    vocab_size = 1 + N_BYTES

    def __init__(self) -> None:
        self.tokenizer = _byte_tokenizer()

    def encode(self, documents: Iterable[Document]) -> Iterator[TokenArray]:
        """Each document's tokens, the end token first: byte b is token b + 1."""
        for document in documents:
            tokens = np.empty(1 + len(document.content), np.int32)
            tokens[0] = self.end_id
            tokens[1:] = np.frombuffer(document.content, np.uint8)
            tokens[1:] += 1
            yield tokens


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer of at most ``vocab_size`` tokens; ``END_ID`` ends a text. No text is unknown to it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a ``tokenizer.json``. Raises DataError if it is none."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more precise
        raise DataError(f"{path}: is not a tokenizer ({error})") from None


def codec_digest(codec: Codec) -> str:
    """Names the codec: equal if, and only if, it writes the same tokens for the same documents."""
    return hashlib.sha256(f"{codec.name}\n{codec.tokenizer.to_str()}".encode()).hexdigest()


def decode_text(content: bytes) -> str:
    """Content as text, lossless: UTF-8, or else one character per byte."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _byte_tokenizer() -> Tokenizer:
    """257 tokens: the end and 256 bytes. A character beyond Latin-1 is no byte and reads as a question mark."""
    vocabulary = {END_OF_TEXT: END_ID, **{chr(byte): byte + 1 for byte in range(N_BYTES)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.normalizer = normalizers.Replace(Regex(r"[^\x{0}-\x{ff}]"), "?")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def _groups(documents: Iterable[Document], n_bytes: int) -> Iterator[list[Document]]:
    group, size = list[Document](), 0
    for document in documents:
        group.append(document)
        size += len(document.content)
        if size >= n_bytes:
            yield group
            group, size = [], 0
    if group:
        yield group
