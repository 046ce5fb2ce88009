"""A model small enough to train in a test."""

from __future__ import annotations

from twobills.specs.model import ModelSpec

SMALL = ModelSpec(
    name="small",
    n_layers=2,
    d_model=64,
    n_heads=2,
    n_kv_heads=1,
    d_head=32,
    d_ff=128,
    vocab_size=320,
    max_seq_len=128,
    tied_embeddings=True,
)
