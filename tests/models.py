"""A model small enough to train in a test, and which models of the catalogue our own network runs."""

from __future__ import annotations

from twobills.errors import SpecError
from twobills.specs import catalog
from twobills.specs.model import ModelSpec, check_own_network

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


def runs(model: ModelSpec) -> bool:
    """Whether our own network runs it."""
    try:
        check_own_network(model)
    except SpecError:
        return False
    return True


RUNNABLE = [model for model in catalog.models().values() if runs(model)]
