"""How many parameters a model has, and which of them multiply.

"Matmul parameters" are those that every token is multiplied by: the layers' projections and the output head, not
the embedding look-up and not the norms. With tied embeddings the shared table counts once in the total and once as
the head's matrix.
"""

from __future__ import annotations

from typing import NamedTuple

from twobills.specs.model import ModelSpec


class Params(NamedTuple):
    """Parameter counts of one model."""

    total: int
    embedding: int
    """The look-up table (with tied embeddings it is the head's matrix too)."""
    head: int
    """The matrix of the output head, whether shared or not."""
    layer_matmul: int
    """Projections of all layers."""
    norm: int

    @property
    def matmul(self) -> int:
        """Parameters that every token is multiplied by: layers and head."""
        return self.layer_matmul + self.head

    @property
    def non_embedding(self) -> int:
        """Kaplan's N: the total without look-up table and head."""
        return self.layer_matmul + self.norm


def count_params(model: ModelSpec) -> Params:
    """Parameters by what they do; the total equals that of the built network."""
    attention = model.d_model * model.d_head * (2 * model.n_heads + 2 * model.n_kv_heads)
    layer_matmul = model.n_layers * (attention + 3 * model.d_model * model.d_ff)
    table = model.vocab_size * model.d_model
    norm = model.n_layers * 2 * model.d_model + model.d_model
    if model.qk_norm:
        norm += model.n_layers * 2 * model.d_head
    n_tables = 1 if model.tied_embeddings else 2
    return Params(
        total=n_tables * table + layer_matmul + norm,
        embedding=table,
        head=table,
        layer_matmul=layer_matmul,
        norm=norm,
    )
