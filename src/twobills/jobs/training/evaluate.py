"""Held-out quality in bits per byte: what the model would need to write each byte of text it has never seen.

Bits per byte do not depend on the tokenizer and compare with a compressor's output. Every token of every held-out
document is predicted exactly once, in windows that do not cross documents and whose first prediction has only one
token to go by: an upper bound, as a longer context would help.
"""

from __future__ import annotations

import gzip
import lzma
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from twobills.counts.training_memory import chunk_tokens
from twobills.jobs.data.batch import IGNORED, Batch
from twobills.jobs.data.codec import Document, TokenArray
from twobills.jobs.nn.attention import CausalAttention
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.profile import CountBytes, count_flops


class Evaluation(NamedTuple):
    """The loss over held-out documents."""

    nats: float
    n_tokens: int
    """Tokens predicted."""
    flops: float
    """Of the kernels that ran, padding included."""
    bytes: float


def evaluate(
    network: Decoder, documents: list[TokenArray], *, batch_size: int, seq_len: int, attend: CausalAttention
) -> Evaluation:
    """Total loss of all documents in nats. Documents begin with the end-of-text token."""
    return evaluate_batches(network, heldout_windows(documents, batch_size, seq_len), attend=attend)


def evaluate_batches(network: Decoder, batches: Iterable[Batch], *, attend: CausalAttention) -> Evaluation:
    """Total loss of what is predicted in batches of one length, in nats."""
    nats, n_tokens, n_rows, flops, n_bytes = 0.0, 0, 0, 0.0, 0.0
    for batch in batches:
        if not n_rows:  # every row has the same shape: those of the first batch are counted, and taken for all
            with CountBytes() as counted, count_flops() as counter:
                nats += _loss(network, batch, attend)
            flops, n_bytes = counter.get_total_flops() / len(batch.inputs), counted.total / len(batch.inputs)
        else:
            nats += _loss(network, batch, attend)
        n_tokens += batch.n_targets
        n_rows += len(batch.inputs)
    return Evaluation(nats, n_tokens, flops * n_rows, n_bytes * n_rows)


@torch.no_grad()
def _loss(network: Decoder, batch: Batch, attend: CausalAttention) -> float:
    """Summed nats of a batch (B, T)."""
    device = network.lm_head.weight.device
    positions = torch.arange(batch.inputs.shape[1], device=device)
    hidden = network.hidden(batch.inputs.to(device), positions, attend).flatten(0, 1)
    size = chunk_tokens(network.spec.vocab_size)  # as in training: the logits of a batch never exist whole
    chunks = zip(torch.split(hidden, size), torch.split(batch.targets.to(device).flatten(), size), strict=True)
    losses = [
        F.cross_entropy(network.logits(rows), targets, ignore_index=IGNORED, reduction="sum")
        for rows, targets in chunks
    ]
    return float(torch.stack(losses).sum())


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Bits that each byte costs."""
    return nats / math.log(2) / n_bytes


def gzip_bits_per_byte(documents: list[Document]) -> float:
    """What ``gzip -9`` needs for each byte, file by file."""
    packed = sum(len(gzip.compress(document.content, compresslevel=9, mtime=0)) for document in documents)
    return 8 * packed / sum(len(document.content) for document in documents)


def xz_bits_per_byte(documents: list[Document]) -> float:
    """What ``xz -9e`` needs for each byte of all documents in one stream."""
    whole = b"".join(document.content for document in documents)
    return 8 * len(lzma.compress(whole, preset=9 | lzma.PRESET_EXTREME)) / len(whole)


def heldout_windows(documents: list[TokenArray], batch_size: int, seq_len: int) -> Iterator[Batch]:
    """Batches (B, seq_len); ends are padded and not predicted."""
    spans = [tokens[s : s + seq_len + 1] for tokens in documents for s in range(0, len(tokens) - 1, seq_len)]
    for first in range(0, len(spans), batch_size):
        batch = spans[first : first + batch_size]
        inputs = np.zeros((len(batch), seq_len), np.int64)
        targets = np.full((len(batch), seq_len), IGNORED, np.int64)
        for row, span in enumerate(batch):
            inputs[row, : len(span) - 1] = span[:-1]
            targets[row, : len(span) - 1] = span[1:]
        yield Batch(torch.from_numpy(inputs), torch.from_numpy(targets))
