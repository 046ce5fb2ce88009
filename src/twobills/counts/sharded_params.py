"""How many parameters one chip holds under each parallel plan, experts apart from the rest.

Tensor and pipeline parallelism divide all matrices; expert parallelism divides only routed experts, which are
therefore shared out among fewer data-parallel ranks. The fullest pipeline stage counts: one more layer than the mean
where they do not divide, and the output head (or, with tied embeddings on one stage, the shared table).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from twobills.counts.layers import SplitBy, layer_kinds
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
    dense_per_layer, expert_per_layer, largest = layouts.dp * 0, layouts.dp * 0, layouts.dp * 0
    for kind in layer_kinds(model):
        routed = sum(p.weights for p in kind.projections if p.split_by is SplitBy.EXPERT)
        whole = sum(p.weights for p in kind.projections if p.split_by is SplitBy.NONE)
        dense = (kind.weights - routed - whole) / layouts.tp + whole + kind.small_params
        expert = routed / (layouts.tp * layouts.ep)
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


def _tables(model: ModelSpec, layouts: Layouts) -> Column:
    params = count_params(model)
    both = params.embedding + (0 if model.tied_embeddings else params.head)
    return np.where(layouts.pp > 1, max(params.embedding, params.head), both) / layouts.tp
