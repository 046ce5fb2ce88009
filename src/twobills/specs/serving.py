"""How a model is served: the limits of the engine's batches and of its KV cache."""

from __future__ import annotations

from dataclasses import dataclass

from twobills.errors import SpecError
from twobills.specs.dtype import DType

KV_BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSpec:
    """Limits that scheduler, engine and simulator share."""

    max_batch_size: int = 32
    """Requests that may be in flight at once."""
    batch_size_tokens: int = 512
    """Tokens that one engine step may hold: all decodes, then prompts in chunks (chunked prefill)."""
    kv_block_tokens: int = KV_BLOCK_TOKENS
    """Tokens per block of the paged KV cache."""
    n_kv_blocks: int = 2048
    """Blocks in the KV cache."""
    max_context_len: int = 1024
    """Prompt and answer together, tokens."""
    dtype: DType = DType.BF16
    n_threads: int | None = None
    """Cores that the engine computes on where the chips are CPU cores; None takes all of them."""

    def __post_init__(self) -> None:
        for field in (
            "max_batch_size",
            "batch_size_tokens",
            "kv_block_tokens",
            "n_kv_blocks",
            "max_context_len",
        ):
            if getattr(self, field) < 1:
                raise SpecError(f"{field}={getattr(self, field)}: must be at least 1")
        if self.n_threads is not None and self.n_threads < 1:
            raise SpecError(f"n_threads={self.n_threads}: must be at least 1")
        if self.batch_size_tokens < self.max_batch_size:
            raise SpecError(
                f"batch_size_tokens={self.batch_size_tokens}: must hold one token of each of the "
                f"max_batch_size={self.max_batch_size} requests"
            )
        if self.n_kv_blocks * self.kv_block_tokens < self.max_context_len:
            raise SpecError(
                f"n_kv_blocks={self.n_kv_blocks}: {self.n_kv_blocks * self.kv_block_tokens} tokens of KV cache cannot "
                f"hold one request of max_context_len={self.max_context_len}"
            )
