"""Text to tokens: a byte-pair tokenizer trained on the training documents only, and batches cut from their tokens.

Every document begins with the end-of-text token, so that a model sees where one stops and the next begins. A batch
is a pure function of the step: each epoch is a shuffled pass over windows that start at a new offset.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from twobills.errors import DataError
from twobills.jobs.data.batch import Batch
from twobills.jobs.data.codec import END_ID, TokenArray


def encode_documents(tokenizer: Tokenizer, texts: Iterable[str]) -> list[TokenArray]:
    """Each document's tokens, the end-of-text token first."""
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array([END_ID, *encoding.ids], dtype=np.int32) for encoding in encodings]


class Batches:
    """Batches of windows from a stream of tokens, by step."""

    def __init__(self, tokens: TokenArray, *, batch_size: int, seq_len: int, seed: int) -> None:
        if len(tokens) < 2 * seq_len + 1:
            raise DataError(f"data: {len(tokens)} tokens are too few for windows of {seq_len}; give more text")
        self._tokens, self._batch_size, self._seq_len, self._seed = tokens, batch_size, seq_len, seed
        self._windows_per_epoch = (len(tokens) - 1 - seq_len) // seq_len
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def __getitem__(self, step: int) -> Batch:
        """The batch of this step: windows and the tokens that follow them."""
        first = step * self._batch_size
        starts = [self._start(window) for window in range(first, first + self._batch_size)]
        windows = np.stack([self._tokens[s : s + self._seq_len + 1] for s in starts]).astype(np.int64)
        block = torch.from_numpy(windows)
        return Batch(block[:, :-1].contiguous(), block[:, 1:].contiguous())

    def _start(self, window: int) -> int:
        epoch, index = divmod(window, self._windows_per_epoch)
        if self._order[0] != epoch:
            generator = np.random.default_rng((self._seed, epoch))
            offset = generator.integers(self._seq_len)
            self._order = epoch, generator.permutation(self._windows_per_epoch) * self._seq_len + offset
        return int(self._order[1][index])
