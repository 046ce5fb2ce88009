"""A training step spread over chips, taken apart: what one chip computes, moves through memory and sends.

For any model and many plans at once (``Layouts``). Work is of the chip that has most of it: of a pipeline stage per
micro-batch, or of an update. A product's backward is two products of its size, attention's backward two and a half
times its forward (its scores are computed again, Dao 2022), a streaming operation's twice its forward. Streaming
operations are counted as if each read its inputs once and wrote its output once; how far software is from that is
``Calibration``'s business, and so is how fast anything goes.
Left out: dropout, biases' additions, load imbalance between experts, bubbles inside a kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

import numpy as np

from twobills.counts.layers import LayerKind, Projection, SplitBy, attended_per_token, layer_kinds
from twobills.counts.layouts import Column, Layouts
from twobills.counts.sharded_params import ShardedParams, sharded_params
from twobills.specs.dtype import DType
from twobills.specs.efficiency import OpKind
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import Recompute, Zero

ATTENTION_BACKWARD = 2.5
SQUARE_PASSES, SQUARE_BACKWARD = 6, 1.5
"""Of attention without a flash kernel: scores written, softmax and dropout each read and written, then read; backward
half as much again."""
_HALF = DType.BF16.bytes
_FP32 = DType.FP32.bytes
_UPDATE_BYTES = 7 * _FP32 + _HALF
"""AdamW per parameter: master and two moments read and written, gradient read, working weight written."""
_CAST_BYTES = _HALF + 2 * DType.FP8.bytes
"""An operand to fp8, per element: read once, written as it is and transposed."""
_LOSS_BYTES = 2 * _HALF + 4 * _FP32
"""Cross-entropy per logit, forward and backward: to fp32, exponentials, gradient, back to 16 bits."""


class Place(Enum):
    """How often work is done, and where."""

    LAYERS = "layers"
    """Per micro-batch in every layer; ``calls`` are of the whole model's layers."""
    HEAD = "head"
    """Per micro-batch on the last pipeline stage."""
    STEP = "step"
    """Once per optimiser step."""


class Passes(Enum):
    """What is done with a micro-batch."""

    TRAIN = "train"
    """Forward, gradients of activations and weights, update."""
    ADAPT = "adapt"
    """As in training, but only small adapters have gradients and are updated (LoRA, Hu et al. 2021)."""
    FORWARD = "forward"
    """Forward only (a teacher, an evaluation)."""

    @property
    def of_products(self) -> int:
        """Products of one size for each of the forward pass."""
        return {Passes.TRAIN: 3, Passes.ADAPT: 2, Passes.FORWARD: 1}[self]

    @property
    def backward(self) -> int:
        """1 if there is a backward pass, else 0."""
        return 0 if self is Passes.FORWARD else 1


class Hidden(Enum):
    """What a transfer can run beside."""

    NOTHING = "nothing"
    TENSOR = "tensor"
    """The product that it feeds or follows: only software that cuts both into pieces does that."""
    DATA = "data"
    """The layers before or after: any software that prefetches does that."""


class Pattern(Enum):
    """Collectives, by what each of ``group`` ranks must receive of a buffer of so many bytes."""

    GATHER = "gather"
    """All-gather or reduce-scatter of a buffer: (group - 1) / group of it."""
    ALL_REDUCE = "all-reduce"
    """Reduce-scatter, then all-gather."""
    ALL_TO_ALL = "all-to-all"
    """(group - 1) / group of it, from every rank alike."""
    SEND = "send"
    """All of it, to the next pipeline stage."""


class Work(NamedTuple):
    """One operation; FLOPs and bytes are of one call."""

    name: str
    kind: OpKind
    place: Place
    flops: Column
    bytes: Column
    calls: Column
    fp8: Column


class Transfer(NamedTuple):
    """One collective; bytes are the whole buffer of one call."""

    name: str
    pattern: Pattern
    place: Place
    hidden: Hidden
    bytes: Column
    calls: Column
    group: Column
    stride: Column
    """Ranks between neighbours of the group, which decides how many of them share fast links."""
    copies: float = 1.0
    """Ranks that each token goes to (all-to-all); those within one fast domain cross the network once."""
    most_domains: float = np.inf
    """Fast domains that one token may go to: a router may choose among few groups of experts only."""


class StepWork(NamedTuple):
    """Everything one chip does in a step."""

    layouts: Layouts
    n_layers: Column
    params: ShardedParams
    work: tuple[Work, ...]
    transfers: tuple[Transfer, ...]


def sharded_step(
    model: ModelSpec,
    layouts: Layouts,
    seq_len: float,
    *,
    passes: Passes = Passes.TRAIN,
    adapted: float = 1.0,
    square: bool = False,
) -> StepWork:
    """One step of ``model`` under each plan.

    ``adapted``: share of the parameters that adapters add and train. ``square``: attention without a flash kernel.
    """
    params = sharded_params(model, layouts)
    if passes is not Passes.TRAIN:
        params = params._replace(updated=params.updated * adapted)
    n_tokens = layouts.micro_batch * seq_len / layouts.cp
    work: list[Work] = []
    transfers: list[Transfer] = []
    for i, kind in enumerate(layer_kinds(model)):
        suffix = "" if i == 0 else f" ({i + 1})"
        work += _layer_work(model, kind, layouts, n_tokens, seq_len, passes, suffix)
        if square:
            work.append(_square(kind, layouts, n_tokens, seq_len, passes, suffix))
        transfers += _layer_transfers(model, kind, layouts, n_tokens, passes, suffix)
    work += _head_work(model, layouts, n_tokens, passes)
    if passes.backward:
        work.append(_streaming("update", Place.STEP, params.updated * _UPDATE_BYTES, 1.0))
    transfers += _data_transfers(layouts, params, passes, adapted)
    transfers += _pipeline_transfers(model, layouts, n_tokens, passes)
    return StepWork(layouts, layouts.column(model.n_layers), params, tuple(work), tuple(transfers))


def attention_width(kind: LayerKind) -> int:
    """Numbers that one token's queries, keys, values and results are."""
    return kind.n_heads * kind.d_qk + kind.n_kv_heads * (kind.d_qk + kind.d_value) + kind.n_heads * kind.d_value


def _layer_work(
    model: ModelSpec,
    kind: LayerKind,
    layouts: Layouts,
    n_tokens: Column,
    seq_len: float,
    passes: Passes,
    suffix: str,
) -> Iterator[Work]:
    again = _again(layouts, passes, Recompute.FULL)
    cheap_again = _again(layouts, passes, Recompute.SELECTIVE)
    for p in kind.projections:
        once_more = cheap_again if p.expands else again
        yield _product(p, layouts, n_tokens, kind.n_layers * (passes.of_products + once_more), p.name + suffix)
    heads = np.minimum(layouts.tp, kind.n_heads)
    yield Work(
        name="attention" + suffix,
        kind=OpKind.ATTENTION,
        place=Place.LAYERS,
        flops=n_tokens * attended_per_token(kind, seq_len) * kind.attention_flops_per_key / heads,
        bytes=n_tokens * attention_width(kind) * _HALF / heads,
        calls=kind.n_layers * (1 + ATTENTION_BACKWARD * passes.backward + again),
        fp8=layouts.column(0),
    )
    for name, width, once_more in _streamed(model, kind, again, cheap_again):
        n_bytes = width * n_tokens * _HALF / layouts.tp
        yield _streaming(name + suffix, Place.LAYERS, n_bytes, kind.n_layers * (1 + 2 * passes.backward + once_more))
    if np.any(layouts.fp8):
        yield _casts(kind, layouts, n_tokens, suffix)


def _streamed(
    model: ModelSpec, kind: LayerKind, again: Column, cheap_again: Column
) -> Iterator[tuple[str, float, Column]]:
    """Streaming operations of a layer: numbers read and written for each token in forward, and what is done again."""
    d_model = model.d_model
    yield "norms", 2 * kind.n_norms * d_model, cheap_again
    yield "residuals", (4 if kind.parallel_block else 6) * d_model, again
    yield "heads and positions", (2 if model.n_learned_positions else 4) * attention_width(kind), cheap_again
    yield "activation", (3 if kind.gated else 2) * kind.d_ff, cheap_again
    if kind.n_experts:
        yield "to and from experts", 4 * kind.n_active_experts * d_model, cheap_again


def _square(kind: LayerKind, layouts: Layouts, n_tokens: Column, seq_len: float, passes: Passes, suffix: str) -> Work:
    """Scores and probabilities of every head, masked half included, through memory."""
    heads = kind.n_heads / np.minimum(layouts.tp, kind.n_heads)
    calls = kind.n_layers * (1 + SQUARE_BACKWARD * passes.backward + _again(layouts, passes, Recompute.SELECTIVE))
    return _streaming(
        "attention's square" + suffix, Place.LAYERS, SQUARE_PASSES * n_tokens * seq_len * heads * _HALF, calls
    )


def _product(p: Projection, layouts: Layouts, n_tokens: Column, calls: Column, name: str) -> Work:
    split = np.ones_like(n_tokens) if p.split_by is SplitBy.NONE else np.minimum(layouts.tp, p.max_split)
    rows, columns = (p.rows / split, p.columns) if p.splits_rows else (p.rows, p.columns / split)
    experts = p.n_stored / layouts.ep if p.split_by is SplitBy.EXPERT else 1.0
    rows_of_tokens = n_tokens * p.n_active / experts
    return Work(
        name=name,
        kind=OpKind.MATMUL,
        place=Place.LAYERS,
        flops=2 * rows_of_tokens * rows * columns,
        bytes=(rows_of_tokens * (rows + columns) + rows * columns) * _HALF,
        calls=calls * experts,
        fp8=layouts.column(0) if p.split_by is SplitBy.NONE else layouts.fp8,
    )


def _casts(kind: LayerKind, layouts: Layouts, n_tokens: Column, suffix: str) -> Work:
    """Inputs, gradients and weights of the layer's products to fp8."""
    elements = layouts.column(0)
    for p in kind.projections:
        if p.split_by is not SplitBy.NONE:
            stored = p.weights / np.where(p.split_by is SplitBy.EXPERT, layouts.ep, 1.0)
            elements = elements + (n_tokens * p.n_active * (p.rows + p.columns) + stored) / layouts.tp
    n_bytes = elements * _CAST_BYTES * layouts.fp8
    return _streaming("casts to fp8" + suffix, Place.LAYERS, n_bytes, kind.n_layers)


def _head_work(model: ModelSpec, layouts: Layouts, n_tokens: Column, passes: Passes) -> Iterator[Work]:
    columns = model.vocab_size / layouts.tp
    width = model.d_embedding or model.d_model
    yield Work(
        name="output head",
        kind=OpKind.MATMUL,
        place=Place.HEAD,
        flops=2 * n_tokens * width * columns,
        bytes=(n_tokens * (width + columns) + width * columns) * _HALF,
        calls=layouts.column(passes.of_products),
        fp8=layouts.column(0),
    )
    yield _streaming("cross-entropy", Place.HEAD, n_tokens * columns * _LOSS_BYTES, (1 + passes.backward) / 2)
    if model.d_embedding:
        yield Work(
            name="to and from a narrower embedding",
            kind=OpKind.MATMUL,
            place=Place.HEAD,
            flops=2 * n_tokens * width * model.d_model / layouts.tp,
            bytes=(n_tokens * (width + model.d_model) + width * model.d_model) * _HALF / layouts.tp,
            calls=layouts.column(2 * passes.of_products),
            fp8=layouts.column(0),
        )
    embedded = 2 * n_tokens * width * _HALF / layouts.tp
    yield _streaming("embedding", Place.HEAD, embedded, 1 + 2 * passes.backward)


def _layer_transfers(
    model: ModelSpec, kind: LayerKind, layouts: Layouts, n_tokens: Column, passes: Passes, suffix: str
) -> Iterator[Transfer]:
    again = _again(layouts, passes, Recompute.FULL)
    both = 1 + passes.backward
    activation = n_tokens * model.d_model * _HALF
    gathers = 2 if kind.parallel_block else 4
    yield Transfer(
        name="activations between tensor-parallel ranks" + suffix,
        pattern=Pattern.GATHER,
        place=Place.LAYERS,
        hidden=Hidden.TENSOR,
        bytes=activation,
        calls=kind.n_layers * gathers * (both + again),
        group=layouts.tp,
        stride=layouts.column(1),
    )
    kv_width = kind.n_kv_heads * (kind.d_qk + kind.d_value) / np.minimum(layouts.tp, kind.n_kv_heads)
    yield Transfer(
        name="keys and values between context-parallel ranks" + suffix,
        pattern=Pattern.GATHER,
        place=Place.LAYERS,
        hidden=Hidden.DATA,
        bytes=n_tokens * layouts.cp * kv_width * _HALF,
        calls=kind.n_layers * (both + passes.backward + again),
        group=layouts.cp,
        stride=layouts.tp,
    )
    if kind.n_experts:
        yield Transfer(
            name="tokens to and from experts" + suffix,
            pattern=Pattern.ALL_TO_ALL,
            place=Place.LAYERS,
            hidden=Hidden.TENSOR,
            bytes=activation / layouts.tp * _mean_format(layouts),
            calls=kind.n_layers * 2 * (both + again),
            group=layouts.ep,
            stride=layouts.tp,
            copies=kind.n_active_experts,
            most_domains=kind.n_active_groups or np.inf,
        )


def _data_transfers(layouts: Layouts, params: ShardedParams, passes: Passes, adapted: float) -> Iterator[Transfer]:
    """Weights and gradients between ranks that hold the same part of the model; of adapters, if only they learn."""
    graded = {Passes.TRAIN: 1.0, Passes.ADAPT: adapted, Passes.FORWARD: 0.0}[passes]
    gathered = (1 + passes.backward) * layouts.n_micro
    sharded = (layouts.zero == Zero.PARAMETERS) * 1.0
    split_update = ((layouts.zero > Zero.NOTHING) & (layouts.zero < Zero.PARAMETERS)) * 1.0
    scattered = split_update * np.where(layouts.zero == Zero.GRADIENTS, layouts.n_micro, 1.0)
    replicated = (layouts.zero == Zero.NOTHING) * 1.0
    parts = (
        ("", params.dense, layouts.shard, layouts.tp),
        (" of experts", params.expert, np.maximum(layouts.shard / layouts.ep, 1), layouts.tp * layouts.ep),
    )
    for of, held, group, stride in parts:
        if not np.any(held):
            continue
        copies = np.maximum(layouts.replicas / layouts.shard, 1)
        pieces = (
            ("weights gathered", Pattern.GATHER, _HALF * held, sharded * gathered, group),
            ("new weights gathered", Pattern.GATHER, _HALF * held * graded, split_update, group),
            ("gradients scattered", Pattern.GATHER, _HALF * held * graded, sharded * layouts.n_micro, group),
            ("gradients scattered, fp32", Pattern.GATHER, _FP32 * held * graded, scattered, group),
            ("gradients summed", Pattern.ALL_REDUCE, _FP32 * held * graded, replicated, group),
        )
        for name, pattern, n_bytes, calls, ranks in pieces:
            yield Transfer(name + of, pattern, Place.STEP, Hidden.DATA, n_bytes, calls, ranks, stride)
        yield Transfer(
            name="gradients summed over copies" + of,
            pattern=Pattern.ALL_REDUCE,
            place=Place.STEP,
            hidden=Hidden.DATA,
            bytes=_FP32 * held * graded / group,
            calls=(copies > 1) * 1.0,
            group=copies,
            stride=stride * group,
        )


def _pipeline_transfers(model: ModelSpec, layouts: Layouts, n_tokens: Column, passes: Passes) -> Iterator[Transfer]:
    yield Transfer(
        name="activations between pipeline stages",
        pattern=Pattern.SEND,
        place=Place.STEP,
        hidden=Hidden.TENSOR,
        bytes=n_tokens * model.d_model * _HALF / layouts.tp,
        calls=(1 + passes.backward) * layouts.interleave * layouts.n_micro * (layouts.pp > 1),
        group=layouts.pp,
        stride=layouts.n_chips / layouts.pp,
    )


def _mean_format(layouts: Layouts) -> Column:
    """Bytes to and from experts over 16 bits: with fp8 products tokens go out in fp8 and come back in 16 bits."""
    return 1 - layouts.fp8 * (1 - DType.FP8.bytes / _HALF) / 2


def _again(layouts: Layouts, passes: Passes, level: Recompute) -> Column:
    """1 where work of this level is done once more for the backward pass."""
    return (layouts.recompute >= level) * float(passes.backward)


def _streaming(name: str, place: Place, n_bytes: Column, calls: Column | float) -> Work:
    zero = n_bytes * 0
    return Work(name, OpKind.ELEMENTWISE, place, zero, n_bytes, zero + calls, zero)
