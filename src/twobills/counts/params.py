"""How many parameters a model has, which of them multiply, and which of them one token touches.

"Matmul parameters" are those that every token is multiplied by: the layers' projections and the output head, not
the embedding look-up and not the norms. With tied embeddings the shared table counts once in the total and once as
the head's matrix. "Active" parameters are those that one token touches: the total without the experts it does not
pass. Sources differ in whether the embedding table belongs to them; here it does.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from twobills.counts.layers import layer_kinds
from twobills.specs.model import ModelSpec


class Params(NamedTuple):
    """Parameter counts of one model."""

    total: int
    active: int
    """What one token touches: the total less idle experts."""
    embedding: int
    """The look-up tables, of tokens and of learned positions (with tied embeddings the head's matrix too)."""
    head: int
    """The matrix of the output head, whether shared or not."""
    layer_matmul: int
    """Projections of all layers, all experts; and what leads from a narrower embedding to the layers and back."""
    active_layer_matmul: int
    """Those of them that one token is multiplied by."""
    small: int
    """Norms, biases and sinks."""

    @property
    def matmul(self) -> int:
        """Matrices that multiply tokens: layers, all experts included, and head."""
        return self.layer_matmul + self.head

    @property
    def matmul_active(self) -> int:
        """Parameters that one token is multiplied by; in a dense model the same as ``matmul``."""
        return self.active_layer_matmul + self.head

    @property
    def non_embedding(self) -> int:
        """Kaplan's N: the total without look-up tables and head."""
        return self.layer_matmul + self.small


@cache
def count_params(model: ModelSpec) -> Params:
    """Parameters by what they do; the total equals that of the built network."""
    kinds = layer_kinds(model)
    d_embedding = model.d_embedding or model.d_model
    head = model.vocab_size * d_embedding
    embedding = head + model.n_learned_positions * model.d_model
    bridges = 2 * d_embedding * model.d_model if model.d_embedding else 0
    layer_matmul = bridges + sum(kind.n_layers * kind.weights for kind in kinds)
    small = sum(kind.n_layers * kind.small_params for kind in kinds)
    small += (model.final_norm + model.embedding_norm) * model.norm.n_params(model.d_model)
    small += model.vocab_size if model.biases.head else 0
    total = embedding + (0 if model.tied_embeddings else head) + layer_matmul + small
    return Params(
        total=total,
        active=total - sum(kind.n_layers * kind.idle_params for kind in kinds),
        embedding=embedding,
        head=head,
        layer_matmul=layer_matmul,
        active_layer_matmul=bridges + sum(kind.n_layers * kind.active_weights for kind in kinds),
        small=small,
    )


def sparsity(model: ModelSpec) -> float:
    """Total over active parameters: 1 for a dense model."""
    params = count_params(model)
    return params.total / params.active
