from __future__ import annotations

import numpy as np
import pytest
import torch

from twobills.errors import DataError
from twobills.jobs.data.codec import END_ID, train_tokenizer
from twobills.jobs.data.tokens import Batches, encode_documents

TEXT = "def greet(name):\n    return 'hello ' + name\n\n\nfor word in greet('world').split():\n    print(word)\n"


def test_a_tokenizer_gives_back_every_text() -> None:
    tokenizer = train_tokenizer([TEXT] * 10, 300)
    odd = "naïve café ☕ \x00 \t tabs"
    (tokens,) = encode_documents(tokenizer, [odd])
    assert tokens[0] == END_ID
    assert tokenizer.decode(tokens[1:].tolist()) == odd
    assert tokenizer.get_vocab_size() <= 300


def test_an_epoch_shows_every_window_once() -> None:
    batches = Batches(np.arange(1000, dtype=np.int32), batch_size=3, seq_len=10, seed=0)
    windows = batches._windows_per_epoch
    starts = [batches._start(i) for i in range(windows)]
    assert len(set(starts)) == windows
    assert all(b - a == 10 for a, b in zip(sorted(starts), sorted(starts)[1:], strict=False))
    assert starts != sorted(starts)


def test_a_batch_is_a_function_of_its_step() -> None:
    tokens = np.arange(1000, dtype=np.int32)
    a, b = (Batches(tokens, batch_size=3, seq_len=10, seed=7) for _ in range(2))
    inputs, targets, _ = a[50]
    assert torch.equal(inputs, b[50].inputs)
    assert torch.equal(targets, inputs + 1)
    assert not torch.equal(a[0].inputs, inputs)
    with pytest.raises(DataError, match="15 tokens are too few"):
        Batches(tokens[:15], batch_size=1, seq_len=10, seed=0)
