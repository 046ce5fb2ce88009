"""The shape of a decoder-only transformer: facts only; what they cost is counted in ``counts``.

The defaults describe Llama: pre-norm RMSNorm, rotary positions, grouped-query attention, gated MLP, no biases.
Everything in which another family differs is a field with a default, or a small record of its own (``Biases``,
``MoE``, ``LatentAttention``, ``Window``) that is absent where the family has no such thing. Left out: what costs
nothing countable (where in a layer a norm stands, scalings of embeddings and logits): for that there is ``family``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from twobills.errors import SpecError


class Norm(StrEnum):
    """A normalisation, by the parameters it has."""

    RMS = "rms"
    """One weight per feature."""
    LAYER = "layer"
    """A weight and a bias per feature."""
    LAYER_NO_BIAS = "layer_no_bias"
    """LayerNorm with weights only (MPT)."""
    PLAIN = "plain"
    """LayerNorm without parameters (OLMo 1)."""

    def n_params(self, width: int) -> int:
        """Parameters of one norm over ``width`` features."""
        return {Norm.LAYER: 2, Norm.PLAIN: 0}.get(self, 1) * width


@dataclass(frozen=True, slots=True, kw_only=True)
class Biases:
    """Which products add a bias."""

    qkv: bool = False
    output: bool = False
    """Of the attention."""
    mlp: bool = False
    router: bool = False
    head: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MoE:
    """A mixture of experts in place of the MLP: layer i (from 0) has it if i >= n_dense_first and every | i + 1."""

    n_experts: int
    n_active_experts: int
    """Routed experts that each token passes."""
    d_expert: int
    """Width of one expert's MLP."""
    d_shared: int = 0
    """Width of all shared experts together, which every token passes."""
    shared_gate: bool = False
    """Whether the shared experts' output is scaled by a product with one column (Qwen2-MoE)."""
    n_dense_first: int = 0
    every: int = 1
    n_active_groups: int | None = None
    """Groups of experts that one token's experts may come from (DeepSeek's node-limited routing); None: any."""

    def __post_init__(self) -> None:
        _at_least(1, self, "n_experts", "n_active_experts", "d_expert", "every")
        _at_least(0, self, "d_shared", "n_dense_first")
        if self.n_active_experts > self.n_experts:
            raise SpecError(f"n_active_experts={self.n_active_experts}: must be at most n_experts={self.n_experts}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """DeepSeek's multi-head latent attention: keys and values from one small vector that alone is cached.

    Ref: DeepSeek-V2, arXiv:2405.04434, section 2.1.
    """

    kv_lora_rank: int
    q_lora_rank: int | None = None
    """None: queries come straight from the activations (DeepSeek-V2-Lite)."""
    d_rope: int
    """Features of a head that carry the position; their key is shared by all heads."""
    d_nope: int
    d_value: int

    def __post_init__(self) -> None:
        _at_least(1, self, "kv_lora_rank", "d_rope", "d_nope", "d_value")
        if self.q_lora_rank is not None:
            _at_least(1, self, "q_lora_rank")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Attention limited to near tokens: in layer i (from 0) if i >= first_layer, unless full_every | i + 1."""

    n_tokens: int
    full_every: int | None = None
    """Every so many layers one attends to everything; None: none does."""
    first_layer: int = 0
    chunked: bool = False
    """Blocks that start afresh (Llama 4), not a window that slides."""

    def __post_init__(self) -> None:
        _at_least(1, self, "n_tokens")
        _at_least(0, self, "first_layer")
        if self.full_every is not None:
            _at_least(2, self, "full_every")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model's shape. Raises SpecError where the numbers contradict each other."""

    name: str
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    """Features of a query; with latent attention d_nope + d_rope."""
    d_ff: int
    """Width of a dense layer's MLP."""
    vocab_size: int
    """Rows of the embedding table."""
    max_seq_len: int
    """The longest sequence that positions were trained for, tokens."""
    tied_embeddings: bool = False
    """Whether the output head is the transposed embedding."""
    qk_norm: bool = False
    """Whether queries and keys are normalised, per head with shared weights (Qwen3)."""
    qk_norm_full: bool = False
    """With ``qk_norm``: one weight for each feature of each head (OLMo 2)."""
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    rope_scaling: str | None = None
    """How rotary positions are stretched, in the source's word (llama3, yarn); costs nothing, but changes results."""
    family: str = "llama"
    """Whose rules hold where these fields say nothing (scalings, layouts, places of norms): a key of ``FAMILIES``."""
    activation: str = "silu"
    gated_mlp: bool = True
    """Whether a second product gates the first."""
    norm: Norm = Norm.RMS
    norms_per_layer: int = 2
    final_norm: bool = True
    embedding_norm: bool = False
    """A norm right after the embedding (BLOOM)."""
    parallel_block: bool = False
    """Attention and MLP side by side instead of one after the other."""
    biases: Biases = Biases()
    n_learned_positions: int = 0
    """Rows of a table of learned positions; 0 with rotary positions or ALiBi."""
    d_embedding: int | None = None
    """Width of the embedding and the head where it is not d_model (OPT-350M): two products go between."""
    attention_sinks: bool = False
    """One learned logit per head beside the keys (gpt-oss)."""
    window: Window | None = None
    moe: MoE | None = None
    latent: LatentAttention | None = None
    left_out: tuple[str, ...] = ()
    """Parts of the source's model that this shape does not hold, in words."""

    def __post_init__(self) -> None:
        _at_least(1, self, "n_layers", "d_model", "n_heads", "n_kv_heads", "d_head", "d_ff", "vocab_size")
        _at_least(1, self, "max_seq_len", "norms_per_layer")
        _at_least(0, self, "n_learned_positions")
        if self.n_heads % self.n_kv_heads:
            raise SpecError(f"n_heads={self.n_heads}: not divisible by n_kv_heads={self.n_kv_heads}")
        if self.d_head % 2:
            raise SpecError(f"d_head={self.d_head}: must be even, rotary positions turn pairs")
        if self.norm_eps <= 0 or self.rope_theta <= 0:
            raise SpecError(f"norm_eps={self.norm_eps}, rope_theta={self.rope_theta}: must be above 0")
        if self.d_embedding is not None:
            _at_least(1, self, "d_embedding")
        if self.latent is not None and self.d_head != self.latent.d_nope + self.latent.d_rope:
            raise SpecError(
                f"d_head={self.d_head}: must be d_nope + d_rope = {self.latent.d_nope + self.latent.d_rope}"
            )
        if self.moe is not None and self.moe.n_dense_first >= self.n_layers:
            raise SpecError(f"n_dense_first={self.moe.n_dense_first}: must be below n_layers={self.n_layers}")


def check_own_network(model: ModelSpec) -> None:
    """Raises SpecError if our own network cannot run this shape, naming the first thing it lacks."""
    runs_only = "our own network runs Llama, Qwen3 and Arcee shapes only"
    mlp = (model.activation, model.gated_mlp)
    if mlp not in (GATED_SILU, PLAIN_RELU2):
        raise SpecError(f"activation={mlp[0]}, gated_mlp={mlp[1]}: {runs_only} (silu and gated, or relu2 and not)")
    if mlp == PLAIN_RELU2 and model.qk_norm:
        raise SpecError(f"qk_norm=True with gated_mlp=False: no published architecture has both; {runs_only}")
    for field in fields(ModelSpec)[_N_RUNNABLE_FIELDS:]:
        value = getattr(model, field.name)
        if value != field.default and field.name not in ("left_out", "activation", "gated_mlp"):
            raise SpecError(f"{field.name}={value}: {runs_only}")
    if model.qk_norm_full:
        raise SpecError(f"qk_norm_full=True: {runs_only}")


GATED_SILU, PLAIN_RELU2 = ("silu", True), ("relu2", False)
"""Activation and whether a second product gates it: of Llama and Qwen3, and of Arcee."""
_N_RUNNABLE_FIELDS = [field.name for field in fields(ModelSpec)].index("rope_scaling")


def _at_least(least: int, spec: object, *names: str) -> None:
    for name in names:
        value = getattr(spec, name)
        if value < least:
            raise SpecError(f"{name}={value}: must be at least {least}")
