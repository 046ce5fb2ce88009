"""Which blocks of the paged KV cache are free.

A block holds a fixed number of tokens' keys and values, so memory is handed out a block at a time and
nothing is reserved for tokens that may never come (Kwon et al. 2023, PagedAttention). Prefixes are not
shared yet.
"""

from __future__ import annotations


class BlockPool:
    """Hands out block numbers 0 to ``n_blocks - 1``; what was freed last goes out first."""

    def __init__(self, n_blocks: int, block_tokens: int) -> None:
        self.n_blocks, self.block_tokens = n_blocks, block_tokens
        self._free = list(range(n_blocks - 1, -1, -1))
        self._is_free = [True] * n_blocks

    @property
    def n_free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    @property
    def used_frac(self) -> float:
        """Share of the blocks that somebody holds, 0 to 1."""
        return 1 - len(self._free) / self.n_blocks

    def blocks_for(self, n_tokens: int) -> int:
        """Blocks that so many tokens take."""
        return -(-n_tokens // self.block_tokens)

    def allocate(self, n_blocks: int) -> list[int]:
        """So many free blocks; the caller has checked that there are enough."""
        assert 0 <= n_blocks <= len(self._free), f"{n_blocks} blocks wanted, {len(self._free)} free"
        taken = [self._free.pop() for _ in range(n_blocks)]
        for block in taken:
            self._is_free[block] = False
        return taken

    def free(self, blocks: list[int]) -> None:
        """Takes blocks back."""
        for block in reversed(blocks):
            assert not self._is_free[block], f"block {block} freed twice"
            self._is_free[block] = True
            self._free.append(block)
