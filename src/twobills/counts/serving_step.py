"""One step of a serving engine, taken apart: what one chip computes, reads and sends to move its sequences on.

For any model and many situations at once (``Situations``): a batch of sequences that each produce a token, prompts that
are read in the same step, or both. Weights are read once a step, of experts those that some token is routed to; the
cache of every sequence is read up to its window; latent attention is decoded in its absorbed form, where all heads
read one small vector (DeepSeek-V2, arXiv:2405.04434, section 2.1.2). Left out: sampling beyond reading the logits,
imbalance between experts, and everything that the host does: that is the engine's (``perf.serving_step``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.counts.layers import LayerKind, Projection, SplitBy, layer_kinds
from twobills.counts.layouts import Column
from twobills.counts.params import count_params
from twobills.counts.sharded_step import Hidden, Pattern, Place, Transfer, Work
from twobills.specs.dtype import DType
from twobills.specs.efficiency import OpKind
from twobills.specs.model import ModelSpec

_HALF = DType.BF16.bytes


class Situations(NamedTuple):
    """Columns: how an instance is spread over chips, in which formats, and what one step of it holds."""

    tp: Column
    pp: Column
    ep: Column
    dp: Column
    """Ranks that attend to different sequences and share one set of experts (attention data parallelism)."""
    weight_bytes: Column
    """Per weight, group scales included."""
    kv_bytes: Column
    """Per number of the cache."""
    n_decode: Column
    """Sequences that produce a token, of the whole instance and one pipeline stage's turn."""
    context: Column
    """Tokens that each of them attends to, at the mean."""
    n_prompt: Column
    """Prompt tokens read in the step."""
    prompt_context: Column
    """Length of the prompts that they belong to."""

    @property
    def n_chips(self) -> Column:
        """Chips of one instance."""
        return self.tp * self.pp * self.dp

    @property
    def n_tokens(self) -> Column:
        """Tokens that one attention rank processes in a step."""
        return (self.n_decode + self.n_prompt) / self.dp

    def column(self, value: float) -> Column:
        """One value in every row."""
        return np.full(len(self.tp), float(value))

    def select(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Situations:
        """The chosen rows."""
        return Situations(*(column[chosen] for column in self))


class ServingWork(NamedTuple):
    """Everything one chip does in a step, over all pipeline stages one after the other."""

    situations: Situations
    work: tuple[Work, ...]
    transfers: tuple[Transfer, ...]
    n_layers: int


def serving_step(model: ModelSpec, situations: Situations) -> ServingWork:
    """One step of each situation."""
    work: list[Work] = []
    transfers: list[Transfer] = []
    for i, kind in enumerate(layer_kinds(model)):
        suffix = "" if i == 0 else f" ({i + 1})"
        work += _layer(model, kind, situations, suffix)
        transfers += _layer_transfers(model, kind, situations, suffix)
    work += _head(model, situations)
    transfers.append(_between_stages(model, situations))
    return ServingWork(situations, tuple(work), tuple(transfers), model.n_layers)


def kv_cache_bytes(model: ModelSpec, context: Column | float, kv_bytes: Column | float) -> Column:
    """Bytes of one sequence's cache over all layers and chips, windows respected."""
    total: Column = np.asarray(0.0)
    for kind in layer_kinds(model):
        kept = np.minimum(context, kind.window) if kind.window else context
        total = total + kind.n_layers * kind.kv_cache_width * kept * kv_bytes
    return total


def weights_per_chip(model: ModelSpec, situations: Situations) -> Column:
    """Bytes of weights on one chip: tensor, pipeline and expert parallelism divide them; embeddings stay in 16 bits."""
    params = count_params(model)
    routed = sum(
        k.n_layers * p.weights for k in layer_kinds(model) for p in k.projections if p.split_by is SplitBy.EXPERT
    )
    tables = params.embedding + (0 if model.tied_embeddings else params.head)
    rest = params.total - routed - tables
    of_layers = (rest / situations.tp + routed / _expert_ranks(situations)) * situations.weight_bytes
    return (of_layers + tables / situations.tp * np.maximum(situations.weight_bytes, _HALF)) / situations.pp


def _expert_ranks(s: Situations) -> Column:
    """Chips of one stage that share out the experts: expert parallelism, or else the tensor-parallel ranks."""
    return np.maximum(s.ep, s.tp)


def _layer(model: ModelSpec, kind: LayerKind, s: Situations, suffix: str) -> Iterator[Work]:
    for p in kind.projections:
        yield _product(p, kind, s, suffix)
    yield _decode_attention(kind, s, suffix)
    yield _prompt_attention(kind, s, suffix)
    width = 2 * kind.n_norms * model.d_model + 6 * model.d_model + (3 if kind.gated else 2) * kind.d_ff / s.tp
    yield _work("norms, residuals, activation" + suffix, OpKind.ELEMENTWISE, s, 0, width * s.n_tokens * _HALF, kind)


def _product(p: Projection, kind: LayerKind, s: Situations, suffix: str) -> Work:
    if p.split_by is SplitBy.EXPERT:
        return _experts(p, kind, s, suffix)
    split = s.column(1) if p.split_by is SplitBy.NONE else np.minimum(s.tp, p.max_split)
    weights = p.rows * p.columns / split
    n_bytes = weights * s.weight_bytes + s.n_tokens * (p.rows + p.columns) / split * _HALF
    return _work(p.name + suffix, OpKind.MATMUL, s, 2 * s.n_tokens * weights, n_bytes, kind)


def _experts(p: Projection, kind: LayerKind, s: Situations, suffix: str) -> Work:
    """All experts of one chip in one grouped call: those are read that at least one token is routed to.

    Attention ranks beyond those that share the experts out have copies of their own, and send them their own tokens.
    """
    ranks = _expert_ranks(s)
    tokens = (s.n_decode + s.n_prompt) * ranks / (s.tp * s.dp)
    touched = 1 - (1 - p.n_active / p.n_stored) ** tokens
    held = p.weights / ranks
    flops = 2 * tokens * p.active_weights / ranks
    moved = tokens * p.n_active * (p.rows + p.columns) / ranks * _HALF
    return _work(p.name + suffix, OpKind.MATMUL, s, flops, held * touched * s.weight_bytes + moved, kind)


def _decode_attention(kind: LayerKind, s: Situations, suffix: str) -> Work:
    sequences = s.n_decode / s.dp
    attended = np.minimum(s.context, kind.window) if kind.window else s.context
    latent = [p.rows for p in kind.projections if p.expands][-1:]
    heads = kind.n_heads / np.minimum(s.tp, kind.n_heads)
    shared = 1.0 if latent else np.minimum(s.tp, kind.n_kv_heads)
    width = kind.kv_cache_width + latent[0] if latent else kind.d_qk + kind.d_value
    flops = 2 * sequences * attended * heads * width
    n_bytes = sequences * attended * kind.kv_cache_width / shared * s.kv_bytes
    return _work("cache read" + suffix, OpKind.ATTENTION, s, flops, n_bytes, kind)


def _prompt_attention(kind: LayerKind, s: Situations, suffix: str) -> Work:
    flops = (
        s.n_prompt
        / s.dp
        * _attended(kind, s.prompt_context)
        * kind.attention_flops_per_key
        / np.minimum(s.tp, kind.n_heads)
    )
    width = kind.n_heads * (kind.d_qk + kind.d_value) / np.minimum(s.tp, kind.n_heads)
    return _work("prompt attention" + suffix, OpKind.ATTENTION, s, flops, s.n_prompt / s.dp * width * _HALF, kind)


def _attended(kind: LayerKind, prompt: Column) -> Column:
    """``counts.layers.attended_per_token`` of many prompts."""
    window = np.minimum(prompt, kind.window) if kind.window else prompt
    if not kind.chunked:
        return np.asarray(window - window**2 / (2 * np.maximum(prompt, 1.0)))
    whole = np.floor(prompt / window)
    return np.asarray((whole * window**2 + (prompt - whole * window) ** 2) / (2 * np.maximum(prompt, 1.0)))


def _head(model: ModelSpec, s: Situations) -> Iterator[Work]:
    """Logits of every sequence that produces a token; of prompts only the last position's."""
    ends = s.n_prompt / np.maximum(s.prompt_context, 1.0)
    n = (s.n_decode + ends) / s.dp
    columns = model.vocab_size / s.tp
    width = model.d_embedding or model.d_model
    n_bytes = width * columns * np.maximum(s.weight_bytes, _HALF) + n * columns * 4 * _HALF
    yield Work("output head", OpKind.MATMUL, Place.HEAD, 2 * n * width * columns, n_bytes, s.column(1), s.column(0))


def _layer_transfers(model: ModelSpec, kind: LayerKind, s: Situations, suffix: str) -> Iterator[Transfer]:
    activation = s.n_tokens * model.d_model * _HALF
    yield Transfer(
        name="partial sums between tensor-parallel ranks" + suffix,
        pattern=Pattern.ALL_REDUCE,
        place=Place.LAYERS,
        hidden=Hidden.NOTHING,
        bytes=activation,
        calls=s.column(kind.n_layers * (1 if kind.parallel_block else 2)),
        group=s.tp,
        stride=s.column(1),
    )
    if kind.n_experts:
        yield Transfer(
            name="tokens to and from experts" + suffix,
            pattern=Pattern.ALL_TO_ALL,
            place=Place.LAYERS,
            hidden=Hidden.NOTHING,
            bytes=activation,
            calls=s.column(2 * kind.n_layers),
            group=np.clip(s.ep / s.tp, 1, s.dp),
            stride=s.tp,
            copies=kind.n_active_experts,
            most_domains=kind.n_active_groups or np.inf,
        )


def _between_stages(model: ModelSpec, s: Situations) -> Transfer:
    return Transfer(
        name="activations between pipeline stages",
        pattern=Pattern.SEND,
        place=Place.STEP,
        hidden=Hidden.NOTHING,
        bytes=s.n_tokens * model.d_model * _HALF / s.tp,
        calls=s.pp - 1,
        group=s.pp,
        stride=s.tp * s.dp,
    )


def _work(name: str, kind_of: OpKind, s: Situations, flops: Column | float, n_bytes: Column, kind: LayerKind) -> Work:
    calls = s.column(kind.n_layers)
    return Work(name, kind_of, Place.LAYERS, flops + s.column(0), n_bytes + s.column(0), calls, s.column(0))
