"""How many parameters one chip holds under each parallel plan, experts apart from the rest.

Tensor and pipeline parallelism divide all matrices (with fewer key-value heads than ranks, each head is held by
several); expert parallelism divides only routed experts, which are therefore shared out among fewer data-parallel
ranks. The fullest pipeline stage counts: one more layer than the mean where they do not divide, and the output head
(or, with tied embeddings on one stage, the shared table). Left out: norms and biases outside the layers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from twobills.counts.layers import LayerKind, SplitBy, layer_kinds
from twobills.counts.layouts import Column, Layouts
from twobills.counts.params import count_params
from twobills.specs.model import ModelSpec


class ShardedParams(NamedTuple):
    """Parameters of one chip."""

    dense: Column
    """All but routed experts: before any sharding among data-parallel ranks."""
    expert: Column
    updated: Column
    """Parameters whose optimiser state this chip keeps and updates."""
    layer: Column
    """Of one layer, the largest kind: what sharded weights are gathered into, at a time."""

    @property
    def held(self) -> Column:
        """All, before sharding."""
        return self.dense + self.expert


def sharded_params(model: ModelSpec, layouts: Layouts) -> ShardedParams:
    """Parameters of the fullest chip."""
    stage_layers = layers_of_fullest_stage(model.n_layers, layouts)
    dense_per_layer, expert_per_layer, largest = (np.zeros_like(layouts.dp) for _ in range(3))
    for kind in layer_kinds(model):
        dense, expert = _of_layer(kind, layouts)
        share = kind.n_layers / model.n_layers
        dense_per_layer = dense_per_layer + share * dense
        expert_per_layer = expert_per_layer + share * expert
        largest = np.maximum(largest, dense + expert)
    tables = _tables(model, layouts)
    dense, expert = stage_layers * dense_per_layer + tables, stage_layers * expert_per_layer
    shared_out = np.where(layouts.zero > 0, layouts.shard, 1.0)
    expert_shard = np.maximum(shared_out / layouts.ep, 1.0)
    return ShardedParams(dense, expert, dense / shared_out + expert / expert_shard, largest)


def layers_of_fullest_stage(n_layers: float | Column, layouts: Layouts) -> Column:
    """Layers on the pipeline stage that has most: whole layers in each of its pieces."""
    pieces = layouts.pp * layouts.interleave
    whole: Column = np.ceil(n_layers / pieces) * layouts.interleave
    return np.minimum(whole, n_layers)


def _of_layer(kind: LayerKind, layouts: Layouts) -> tuple[Column, Column]:
    """One rank's part of a layer: all but routed experts, and these."""
    dense, expert = np.full_like(layouts.dp, kind.small_params), np.zeros_like(layouts.dp)
    for p in kind.projections:
        part = p.weights / np.minimum(layouts.tp, p.max_split)
        if p.split_by is SplitBy.EXPERT:
            expert = expert + part / layouts.ep
        else:
            dense = dense + part
    return dense, expert


def _tables(model: ModelSpec, layouts: Layouts) -> Column:
    """Embedding and head, with what leads from a narrower embedding to the layers and back."""
    params = count_params(model)
    bridge = model.d_model * model.d_embedding if model.d_embedding else 0
    both = params.embedding + (0 if model.tied_embeddings else params.head) + 2 * bridge
    return np.where(layouts.pp > 1, max(params.embedding, params.head) + bridge, both) / layouts.tp
