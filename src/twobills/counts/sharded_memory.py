"""What one chip holds during a training step, under each parallel plan.

Mixed-precision AdamW as it is usually kept: working weights in 16 bits, gradients and master weights and two moments
in fp32 (2 + 4 + 12 bytes a parameter), shared out as ZeRO's stage says. Activations are those that backward reads:
inputs of products, of norms and of the activation function, queries, keys and values; attention's square is never
kept (a flash kernel). The first pipeline stage holds as many micro-batches as there are stages.
Ref: Korthikanti et al. 2022, section 4; Rajbhandari et al. 2020, section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from twobills.counts.layers import LayerKind, layer_kinds
from twobills.counts.layouts import Column, Layouts
from twobills.counts.sharded_params import ShardedParams, layers_of_fullest_stage, sharded_params
from twobills.counts.sharded_step import Passes, attention_width
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import Recompute, Zero

_HALF = DType.BF16.bytes
_FP32 = DType.FP32.bytes
GATHERED_LAYERS = 2
"""Layers whose sharded weights are whole at one time: the one that runs and the one prefetched."""


class ShardedMemory(NamedTuple):
    """Bytes of the fullest chip."""

    weights: Column
    gradients: Column
    optimiser: Column
    activations: Column
    logits: Column

    @property
    def total(self) -> Column:
        """All of them."""
        return self.weights + self.gradients + self.optimiser + self.activations + self.logits


def sharded_memory(
    model: ModelSpec,
    layouts: Layouts,
    seq_len: float,
    *,
    passes: Passes = Passes.TRAIN,
    adapted: float = 1.0,
    square: bool = False,
) -> ShardedMemory:
    """Bytes per chip of one step; ``adapted`` and ``square`` as in ``sharded_step``."""
    if passes is Passes.FORWARD:
        return _forward_memory(model, layouts, seq_len)
    trained = adapted if passes is Passes.ADAPT else 1.0
    params = sharded_params(model, layouts)
    kept = _kept_share(params, layouts, Zero.PARAMETERS)
    gathered = np.where(layouts.zero == Zero.PARAMETERS, GATHERED_LAYERS * params.layer, 0)
    n_tokens = layouts.micro_batch * seq_len / layouts.cp
    return ShardedMemory(
        weights=(kept + gathered) * _HALF,
        gradients=trained * _kept_share(params, layouts, Zero.GRADIENTS) * _FP32,
        optimiser=trained * params.updated * 3 * _FP32,
        activations=_activations(model, layouts, n_tokens) + square * _squares(model, layouts, n_tokens, seq_len),
        logits=_logits(model, layouts, n_tokens),
    )


def _forward_memory(model: ModelSpec, layouts: Layouts, seq_len: float) -> ShardedMemory:
    """Weights and what one layer works on."""
    params = sharded_params(model, layouts)
    n_tokens = layouts.micro_batch * seq_len / layouts.cp
    working = max(activation_bytes_per_token(model, kind, Recompute.NONE) for kind in layer_kinds(model))
    gathered = np.where(layouts.zero == Zero.PARAMETERS, GATHERED_LAYERS * params.layer, 0)
    none = layouts.column(0)
    return ShardedMemory(
        weights=(_kept_share(params, layouts, Zero.PARAMETERS) + gathered) * _HALF,
        gradients=none,
        optimiser=none,
        activations=n_tokens / layouts.tp * working,
        logits=_logits(model, layouts, n_tokens),
    )


def activation_bytes_per_token(
    model: ModelSpec, kind: LayerKind, recompute: Recompute, *, fp8: Column | float = 0.0
) -> Column | float:
    """Bytes that one token leaves for backward in one layer, before any splitting.

    Inputs of fp8 products are kept in fp8, and so is what enters the activation function (DeepSeek-V3, section 3.3.3).
    """
    if recompute is Recompute.FULL:
        return model.d_model * _HALF
    into_mlp = (2 if kind.gated else 1) * kind.d_ff
    streamed = 2 * model.d_model + _kept_attention(kind, recompute)
    multiplied = into_mlp + kind.n_active_experts * model.d_model
    if recompute is Recompute.NONE:
        multiplied += kind.n_norms * model.d_model + kind.d_ff
    return streamed * _HALF + multiplied * (_HALF - fp8 * (_HALF - DType.FP8.bytes))


def _kept_attention(kind: LayerKind, recompute: Recompute) -> int:
    """Numbers of one token: queries, keys, values and results; latent vectors, from which some are expanded again."""
    latent = sum(p.rows for p in kind.projections if p.expands)
    if not latent or recompute is Recompute.NONE:
        return attention_width(kind) + latent
    unexpanded = sum(p.columns for p in kind.projections if p.name == "query")
    return latent + unexpanded + kind.n_heads * kind.d_value


def _activations(model: ModelSpec, layouts: Layouts, n_tokens: Column) -> Column:
    per_layer = [_mean_per_layer(model, level, layouts.fp8) for level in Recompute]
    kept = np.choose(layouts.recompute.astype(int), per_layer) * layers_of_fullest_stage(model.n_layers, layouts)
    at_once = np.choose(layouts.recompute.astype(int), [_made_again(model, level, layouts.fp8) for level in Recompute])
    return np.asarray(n_tokens / layouts.tp * (kept * _in_flight(layouts) + at_once))


def _squares(model: ModelSpec, layouts: Layouts, n_tokens: Column, seq_len: float) -> Column:
    """Probabilities, their dropout mask and what it leaves: 5 bytes of every square (Korthikanti et al., eq. 1)."""
    per_layer = n_tokens * model.n_heads * seq_len * 5 / layouts.tp
    of_stage = layers_of_fullest_stage(model.n_layers, layouts) * _in_flight(layouts)
    return per_layer * np.where(layouts.recompute == Recompute.NONE, of_stage, 1)


def _made_again(model: ModelSpec, recompute: Recompute, fp8: Column) -> Column:
    """Bytes per token that the layer which runs backward has besides what it kept."""
    most = np.zeros_like(fp8)
    for kind in layer_kinds(model):
        kept, whole = (activation_bytes_per_token(model, kind, level, fp8=fp8) for level in (recompute, Recompute.NONE))
        most = np.maximum(most, whole - kept)
    return most


def _in_flight(layouts: Layouts) -> Column:
    """Micro-batches whose activations the first stage holds: 1F1B, more when interleaved (Korthikanti, eq. 5)."""
    stages = layouts.pp
    interleaved = np.where(layouts.interleave > 1, 1 + (stages - 1) / (stages * layouts.interleave), 1.0)
    return np.minimum(layouts.n_micro, stages * interleaved)


def _mean_per_layer(model: ModelSpec, recompute: Recompute, fp8: Column) -> Column:
    kinds = layer_kinds(model)
    whole = sum(k.n_layers * activation_bytes_per_token(model, k, recompute, fp8=fp8) for k in kinds)
    return np.asarray(whole / model.n_layers + 0 * fp8)


def _logits(model: ModelSpec, layouts: Layouts, n_tokens: Column) -> Column:
    return n_tokens * model.vocab_size / layouts.tp * (_HALF + _FP32)


def _kept_share(params: ShardedParams, layouts: Layouts, from_stage: Zero) -> Column:
    """Parameters that stay on this chip where ZeRO shares them out from this stage on."""
    shared = layouts.zero >= from_stage
    shard = np.where(shared, layouts.shard, 1.0)
    return params.dense / shard + params.expert / np.maximum(shard / layouts.ep, 1.0)
