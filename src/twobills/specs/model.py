"""The shape of a decoder-only transformer: pre-norm RMSNorm, rotary positions, grouped-query attention, gated MLP.

That is the Llama family, with Qwen3's normalised queries and keys as an option. Facts only: what they cost is
counted in ``counts``.
"""

from __future__ import annotations

from dataclasses import dataclass

from twobills.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model's shape. Raises SpecError where the numbers contradict each other."""

    name: str
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_ff: int
    vocab_size: int
    max_seq_len: int
    """The longest sequence that positions were trained for, tokens."""
    tied_embeddings: bool = False
    """Whether the output head is the transposed embedding."""
    qk_norm: bool = False
    """Whether queries and keys are RMS-normalised per head (Qwen3)."""
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for field in (
            "n_layers",
            "d_model",
            "n_heads",
            "n_kv_heads",
            "d_head",
            "d_ff",
            "vocab_size",
            "max_seq_len",
        ):
            if getattr(self, field) < 1:
                raise SpecError(f"{field}={getattr(self, field)}: must be at least 1")
        if self.n_heads % self.n_kv_heads:
            raise SpecError(f"n_heads={self.n_heads}: not divisible by n_kv_heads={self.n_kv_heads}")
        if self.d_head % 2:
            raise SpecError(f"d_head={self.d_head}: must be even, rotary positions turn pairs")
        if self.norm_eps <= 0 or self.rope_theta <= 0:
            raise SpecError(f"norm_eps={self.norm_eps}, rope_theta={self.rope_theta}: must be above 0")
