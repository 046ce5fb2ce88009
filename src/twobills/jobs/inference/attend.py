"""How a flat batch attends over the paged cache: decodes in one padded product, prompts one by one.

Contexts are multiplied in whole blocks (a slice of one would be copied first), decodes padded to the longest;
what is too much is masked. A prompt's chunk multiplies the rectangle of its tokens and everything before
their end. What was multiplied is counted from the products themselves, padding and masked parts included, so
the meter's FLOPs are what ran.

Shapes: n tokens, B requests that decode, T keys (the longest context in whole blocks), H heads, K key-value
heads, G = H / K, D head size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twobills.jobs.inference.cache import PagedCache
from twobills.serving.scheduler import Batch, Chunk

IntArray = NDArray[np.int64]


class Span(NamedTuple):
    """Tokens that attend together: decodes with one row per request, or one prompt's chunk."""

    rows: slice
    """Which of the n tokens."""
    blocks: Tensor
    """Their contexts' cache blocks, in order."""
    n_requests: int
    mask: Tensor
    """Added to the scores; broadcasts to (K * n_requests, G * rows per request, keys)."""


class FlatBatch(NamedTuple):
    """A batch as tensors: token ids, positions and cache slots (n,), and who attends with whom."""

    token_ids: Tensor
    positions: Tensor
    slots: Tensor
    decode: Span | None
    prefills: tuple[Span, ...]


class BlockTables:
    """The decodes' block tables as one array; a row is rewritten only when its contents change."""

    def __init__(self, max_batch_size: int, max_blocks: int) -> None:
        self._table = np.zeros((max_batch_size, max_blocks), dtype=np.int64)
        self._holds: list[tuple[str, int, int] | None] = [None] * max_batch_size

    def rows(self, decodes: tuple[Chunk, ...]) -> IntArray:
        """(B, max_blocks); what lies beyond a request's own blocks is stale, valid, and to be masked."""
        for i, chunk in enumerate(decodes):
            request = chunk.request
            holds = (request.id, request.n_preemptions, len(request.block_table))
            if self._holds[i] != holds:
                self._holds[i] = holds
                self._table[i, : holds[2]] = request.block_table
        return self._table[: len(decodes)]


class PagedAttend:
    """An ``Attend`` for one step, which counts the scores it multiplied, over all layers and heads."""

    def __init__(self, cache: PagedCache, batch: FlatBatch) -> None:
        self._cache, self._batch = cache, batch
        self.executed_decode = 0
        self.executed_prefill = 0

    def __call__(self, layer: int, q_SHD: Tensor, k_SKD: Tensor, v_SKD: Tensor) -> Tensor:
        """(n, H, D) to (n, H, D). Writes keys and values first, so tokens see themselves."""
        batch = self._batch
        self._cache.write(layer, batch.slots, k_SKD, v_SKD)
        mixed: list[Tensor] = []
        if batch.decode is not None:
            out, n_scores = self._attend(layer, q_SHD, batch.decode, k_SKD.shape[1])
            self.executed_decode += n_scores
            mixed.append(out)
        for span in batch.prefills:
            out, n_scores = self._attend(layer, q_SHD, span, k_SKD.shape[1])
            self.executed_prefill += n_scores
            mixed.append(out)
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed)

    def _attend(self, layer: int, q_nHD: Tensor, span: Span, K: int) -> tuple[Tensor, int]:
        q_rHD = q_nHD[span.rows]
        R, H, D = q_rHD.shape
        B, G = span.n_requests, H // K
        per = R // B  # rows per request: 1 when decoding, the chunk's length in a prompt
        keys, values = self._cache.gather(layer, span.blocks, B)
        q = q_rHD.view(B, per, K, G, D).permute(2, 0, 3, 1, 4).reshape(K * B, G * per, D)
        scores = torch.baddbmm(span.mask, q, keys.transpose(1, 2), alpha=D**-0.5)  # (K * B, G * per, T)
        out = torch.bmm(scores.softmax(-1), values)
        return out.view(K, B, G, per, D).permute(1, 3, 0, 2, 4).reshape(R, H, D), scores.numel()


class Flattener:
    """Turns a scheduler's batch into tensors, a few array operations whatever the number of requests."""

    def __init__(
        self, *, max_batch_size: int, max_context_len: int, block_tokens: int, kv_heads: int, group: int,
        device: torch.device, dtype: torch.dtype,
    ) -> None:  # fmt: skip
        self._block_tokens, self._kv_heads, self._group = block_tokens, kv_heads, group
        self._device, self._dtype = device, dtype
        self._tables = BlockTables(max_batch_size, -(-max_context_len // block_tokens))
        self._places = torch.arange(self._whole_blocks(max_context_len), device=device)

    def flatten(self, batch: Batch) -> FlatBatch:
        """Token ids, positions, slots and spans of the batch, decodes first."""
        decodes, prefills = batch.decodes, batch.prefills
        token_ids: list[int] = [chunk.request.output_token_ids[-1] for chunk in decodes]
        positions, slots, decode = self._decode_span(decodes)
        all_positions, all_slots, spans = [positions], [slots], []
        for chunk in prefills:
            first_row = len(token_ids)
            token_ids += chunk.request.tokens(chunk.start, chunk.n_tokens)
            positions, slots, span = self._prefill_span(chunk, first_row)
            all_positions.append(positions)
            all_slots.append(slots)
            spans.append(span)
        flat = np.stack((token_ids, np.concatenate(all_positions), np.concatenate(all_slots)))
        ids, places, targets = torch.from_numpy(flat).to(self._device).unbind()
        return FlatBatch(ids, places, targets, decode, tuple(spans))

    def _decode_span(self, decodes: tuple[Chunk, ...]) -> tuple[IntArray, IntArray, Span | None]:
        positions: IntArray = np.array([chunk.start for chunk in decodes], dtype=np.int64)
        if not decodes:
            return positions, positions, None
        table = self._tables.rows(decodes)
        B, T = len(decodes), self._whole_blocks(int(positions.max()) + 1)
        slots = table[np.arange(B), positions // self._block_tokens] * self._block_tokens
        slots += positions % self._block_tokens
        last = torch.from_numpy(positions).to(self._device)
        hidden_BT = self._places[:T] > last[:, None]
        mask_BT = torch.zeros(B, T, device=self._device, dtype=self._dtype).masked_fill_(hidden_BT, -math.inf)
        mask = mask_BT.repeat(self._kv_heads, 1)[:, None]  # (K * B, 1, T)
        return positions, slots, Span(slice(0, B), self._blocks(table, T), B, mask)

    def _prefill_span(self, chunk: Chunk, first_row: int) -> tuple[IntArray, IntArray, Span]:
        positions: IntArray = np.arange(chunk.start, chunk.end, dtype=np.int64)
        table: IntArray = np.array(chunk.request.block_table, dtype=np.int64)
        slots = table[positions // self._block_tokens] * self._block_tokens + positions % self._block_tokens
        T = self._whole_blocks(chunk.end)
        shape = (chunk.n_tokens, T)
        mask = torch.full(shape, -math.inf, device=self._device, dtype=self._dtype).triu_(chunk.start + 1)
        blocks = self._blocks(table[None], T)
        rows = slice(first_row, first_row + chunk.n_tokens)
        return positions, slots, Span(rows, blocks, 1, mask.repeat(self._group, 1)[None])

    def _whole_blocks(self, context_len: int) -> int:
        return -(-context_len // self._block_tokens) * self._block_tokens

    def _blocks(self, table: IntArray, n_keys: int) -> Tensor:
        return torch.from_numpy(table[:, : n_keys // self._block_tokens].ravel()).to(self._device)
