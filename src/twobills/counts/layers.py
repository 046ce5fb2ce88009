"""What a model's layers are made of: the one description from which parameters, FLOPs and bytes are all counted.

Layers that are alike are one ``LayerKind``; it lists the products that a token passes through (``Projection``) and what
its attention looks at. A product of ``rows`` input features with ``columns`` output features is a matrix of
rows x columns. Keys and values are one projection, and so are gate and up, as engines fuse them.
Latent attention is described as it is trained and as prompts are read: keys and values expanded to all heads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from twobills.specs.model import LatentAttention, ModelSpec, MoE


class SplitBy(StrEnum):
    """What parallelism divides a projection by."""

    HEADS = "heads"
    """Attention: tensor parallelism gives each rank some heads."""
    WIDTH = "width"
    """MLP, shared experts included: tensor parallelism gives each rank a part of the width."""
    EXPERT = "expert"
    """A routed expert: expert parallelism gives each rank whole experts, tensor parallelism a part of each width."""
    NONE = "none"
    """Every rank has all of it (router, latent attention's way down)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """One product of a layer."""

    name: str
    rows: int
    """Input features."""
    columns: int
    """Output features."""
    split_by: SplitBy
    splits_rows: bool = False
    """Whether a rank's part is rows (output, down: their results are summed over ranks), not columns."""
    max_split: int = 1
    """The most ranks of tensor parallelism that can each hold another part; beyond it parts are held twice."""
    n_active: int = 1
    """Such matrices that each token passes: the active experts."""
    n_stored: int = 1
    """Such matrices that there are: all experts."""
    bias: bool = False
    expands: bool = False
    """Whether it widens a small vector (latent attention's ways up): backward would rather compute it again."""

    @property
    def weights(self) -> int:
        """Parameters of all stored matrices, biases left out."""
        return self.n_stored * self.rows * self.columns

    @property
    def active_weights(self) -> int:
        """Parameters that one token is multiplied by."""
        return self.n_active * self.rows * self.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerKind:
    """``n_layers`` layers that are alike."""

    n_layers: int
    projections: tuple[Projection, ...]
    n_heads: int
    n_kv_heads: int
    """As attention multiplies them: latent attention expands to every head."""
    d_qk: int
    """Features of one head's queries and keys."""
    d_value: int
    """Features of one head's values."""
    kv_cache_width: int
    """Numbers that one token leaves in the cache of one layer."""
    window: int | None
    """The most tokens that a token attends to; None: all before it."""
    chunked: bool
    """Whether the window is a block that starts afresh, not one that slides."""
    n_norms: int
    """Norms over d_model."""
    qk_norm: bool
    d_ff: int
    """Width of the MLP that one token passes: dense, or all its active and shared experts."""
    gated: bool
    n_experts: int
    """0 in a dense layer."""
    n_active_experts: int
    n_active_groups: int | None
    """Groups of experts that one token's experts may come from; None: any."""
    parallel_block: bool
    """Attention and MLP side by side: their partial sums need one all-reduce instead of two."""
    small_params: int
    """Parameters of one layer that are no matrix: norms, biases, sinks."""

    @property
    def weights(self) -> int:
        """Matrix parameters of one layer."""
        return sum(p.weights for p in self.projections)

    @property
    def active_weights(self) -> int:
        """Matrix parameters of one layer that one token is multiplied by."""
        return sum(p.active_weights for p in self.projections)

    @property
    def idle_params(self) -> int:
        """Parameters of one layer that one token does not touch: experts it does not pass, their biases included."""
        idle_biases = sum((p.n_stored - p.n_active) * p.columns for p in self.projections if p.bias)
        return self.weights - self.active_weights + idle_biases

    @property
    def attention_flops_per_key(self) -> int:
        """Forward FLOPs of one token for each token that it attends to, in one layer: scores and mixing."""
        return 2 * self.n_heads * (self.d_qk + self.d_value)


@cache
def layer_kinds(model: ModelSpec) -> tuple[LayerKind, ...]:
    """The kinds of layers that a model has, in the order in which they first appear."""
    count = Counter((_has_experts(model, i), _has_window(model, i)) for i in range(model.n_layers))
    return tuple(_kind(model, n, experts, window) for (experts, window), n in count.items())


def attended_per_token(kind: LayerKind, seq_len: float) -> float:
    """Keys that a token attends to in one layer, the mean over a causal sequence.

    The area of the causal band over its length: seq_len / 2 where there is no window (so that full causal attention
    comes out as 6 n_layers n_heads d_head seq_len in training FLOPs), w - w^2 / (2 seq_len) with a window of w.
    A count that includes each token itself would be one half more.
    """
    w = kind.window
    if w is None or seq_len <= w:
        return seq_len / 2
    if not kind.chunked:
        return w - w * w / (2 * seq_len)
    whole, rest = divmod(seq_len, w)
    return (whole * w * w + rest * rest) / (2 * seq_len)


def attended_last(kind: LayerKind, context_len: int) -> int:
    """Keys that the last token of a context attends to in one layer, itself included."""
    if kind.window is None:
        return context_len
    if kind.chunked:
        return (context_len - 1) % kind.window + 1
    return min(context_len, kind.window)


def _has_experts(model: ModelSpec, layer: int) -> bool:
    moe = model.moe
    return moe is not None and layer >= moe.n_dense_first and (layer + 1) % moe.every == 0


def _has_window(model: ModelSpec, layer: int) -> bool:
    window = model.window
    if window is None or layer < window.first_layer:
        return False
    return window.full_every is None or (layer + 1) % window.full_every != 0


def _kind(model: ModelSpec, n_layers: int, has_experts: bool, has_window: bool) -> LayerKind:
    moe = model.moe if has_experts else None
    latent = model.latent
    projections = (*_attention(model), *(_experts(model, moe) if moe else _dense_mlp(model)))
    norms = model.norms_per_layer * model.norm.n_params(model.d_model) + _inner_norm_params(model)
    biases = sum(p.n_stored * p.columns for p in projections if p.bias)
    return LayerKind(
        n_layers=n_layers,
        projections=projections,
        n_heads=model.n_heads,
        n_kv_heads=model.n_heads if latent else model.n_kv_heads,
        d_qk=model.d_head,
        d_value=latent.d_value if latent else model.d_head,
        kv_cache_width=latent.kv_lora_rank + latent.d_rope if latent else 2 * model.n_kv_heads * model.d_head,
        window=model.window.n_tokens if model.window and has_window else None,
        chunked=bool(has_window and model.window and model.window.chunked),
        n_norms=model.norms_per_layer,
        qk_norm=model.qk_norm,
        d_ff=moe.n_active_experts * moe.d_expert + moe.d_shared if moe else model.d_ff,
        gated=model.gated_mlp,
        n_experts=moe.n_experts if moe else 0,
        n_active_experts=moe.n_active_experts if moe else 0,
        n_active_groups=moe.n_active_groups if moe else None,
        parallel_block=model.parallel_block,
        small_params=norms + biases + (model.n_heads if model.attention_sinks else 0),
    )


def _attention(model: ModelSpec) -> Iterator[Projection]:
    d, heads, kv_heads, width = model.d_model, model.n_heads, model.n_kv_heads, model.d_head
    bias = model.biases.qkv
    if model.latent is None:
        yield _by_heads("query", d, heads * width, heads, bias=bias)
        yield _by_heads("key and value", d, 2 * kv_heads * width, kv_heads, bias=bias)
    else:
        yield from _latent_attention(model, model.latent)
    value = model.latent.d_value if model.latent else width
    yield _by_heads("attention output", heads * value, d, heads, splits_rows=True, bias=model.biases.output)


def _latent_attention(model: ModelSpec, latent: LatentAttention) -> Iterator[Projection]:
    d, heads, queries = model.d_model, model.n_heads, model.n_heads * model.d_head
    if latent.q_lora_rank is None:
        yield _by_heads("query", d, queries, heads)
    else:
        yield Projection(name="query down", rows=d, columns=latent.q_lora_rank, split_by=SplitBy.NONE)
        yield _by_heads("query up", latent.q_lora_rank, queries, heads, expands=True)
    yield Projection(name="latent down", rows=d, columns=latent.kv_lora_rank + latent.d_rope, split_by=SplitBy.NONE)
    widened = heads * (latent.d_nope + latent.d_value)
    yield _by_heads("latent up", latent.kv_lora_rank, widened, heads, expands=True)


def _dense_mlp(model: ModelSpec) -> tuple[Projection, Projection]:
    return _mlp(model, "", SplitBy.WIDTH, model.d_ff)


def _experts(model: ModelSpec, moe: MoE) -> Iterator[Projection]:
    d = model.d_model
    yield Projection(name="router", rows=d, columns=moe.n_experts, split_by=SplitBy.NONE, bias=model.biases.router)
    yield from _mlp(model, "expert ", SplitBy.EXPERT, moe.d_expert, moe.n_active_experts, moe.n_experts)
    if moe.d_shared:
        yield from _mlp(model, "shared expert ", SplitBy.WIDTH, moe.d_shared)
    if moe.shared_gate:
        yield Projection(name="shared expert scale", rows=d, columns=1, split_by=SplitBy.NONE)


def _mlp(
    model: ModelSpec, prefix: str, split_by: SplitBy, width: int, n_active: int = 1, n_stored: int = 1
) -> tuple[Projection, Projection]:
    """Into the MLP and out of it."""
    into = Projection(
        name=prefix + ("gate and up" if model.gated_mlp else "up"),
        rows=model.d_model,
        columns=(2 if model.gated_mlp else 1) * width,
        split_by=split_by,
        max_split=width,
        n_active=n_active,
        n_stored=n_stored,
        bias=model.biases.mlp,
    )
    out = Projection(
        name=prefix + "down",
        rows=width,
        columns=model.d_model,
        split_by=split_by,
        splits_rows=True,
        max_split=width,
        n_active=n_active,
        n_stored=n_stored,
        bias=model.biases.mlp,
    )
    return into, out


def _by_heads(
    name: str,
    rows: int,
    columns: int,
    heads: int,
    *,
    splits_rows: bool = False,
    bias: bool = False,
    expands: bool = False,
) -> Projection:
    return Projection(
        name=name,
        rows=rows,
        columns=columns,
        split_by=SplitBy.HEADS,
        splits_rows=splits_rows,
        max_split=heads,
        bias=bias,
        expands=expands,
    )


def _inner_norm_params(model: ModelSpec) -> int:
    """Norms inside one layer's attention: of queries and keys, and of latent attention's small vectors."""
    params = 0
    if model.qk_norm:
        params += model.d_head * (model.n_heads + model.n_kv_heads if model.qk_norm_full else 2)
    if model.latent:
        params += model.latent.kv_lora_rank + (model.latent.q_lora_rank or 0)
    return params
