"""The paged KV cache: where keys and values lie, and how they are written and read back.

Per layer two tensors (K, n_blocks, block_tokens * D). Heads come first because gathering whole blocks then
yields (K * B, T, D) contiguous: the shape that one batched product wants, so no key is copied a second time
or repeated for the query heads of its group. It starts as zeros: what is masked must still be finite.

Shapes: n tokens, K key-value heads, D head size, B requests, T context rounded up to blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from twobills.specs.model import ModelSpec
from twobills.specs.serving import ServingSpec


class KeysValues(NamedTuple):
    """Contexts of B requests, each (K * B, T, D)."""

    keys: Tensor
    values: Tensor


class PagedCache:
    """Keys and values of all layers, addressed by block and by slot (block x block_tokens + offset)."""

    def __init__(self, model: ModelSpec, spec: ServingSpec, device: torch.device, dtype: torch.dtype) -> None:
        self.block_tokens = spec.kv_block_tokens
        self._kv_heads, self._d_head = model.n_kv_heads, model.d_head
        shape = (model.n_kv_heads, spec.n_kv_blocks, spec.kv_block_tokens * model.d_head)
        by_slot = (model.n_kv_heads, spec.n_kv_blocks * spec.kv_block_tokens, model.d_head)
        self._blocks = [
            KeysValues(*(torch.zeros(shape, device=device, dtype=dtype) for _ in range(2)))
            for _ in range(model.n_layers)
        ]
        self._slots = [KeysValues(*(tensor.view(by_slot) for tensor in pair)) for pair in self._blocks]

    def write(self, layer: int, slots_n: Tensor, k_nKD: Tensor, v_nKD: Tensor) -> None:
        """Puts n tokens' keys and values into their slots."""
        keys, values = self._slots[layer]
        keys.index_copy_(1, slots_n, k_nKD.transpose(0, 1))
        values.index_copy_(1, slots_n, v_nKD.transpose(0, 1))

    def gather(self, layer: int, blocks: Tensor, n_requests: int) -> KeysValues:
        """Contexts of B requests from their blocks in order, (B * blocks per request,)."""
        shape = (self._kv_heads * n_requests, -1, self._d_head)
        keys, values = self._blocks[layer]
        return KeysValues(
            keys.index_select(1, blocks).view(shape),
            values.index_select(1, blocks).view(shape),
        )
