"""The transformer itself, once, for both jobs: what differs between training and serving is only how it attends.

Parameters carry Hugging Face's names, so a state dict is a Llama, Qwen3 or Arcee checkpoint as it stands. The caller
hands in ``attend(layer, q, k, v)``: training passes causal attention over a batch of equal lengths, the engine
passes attention over its paged KV cache. Assumes no bias and no dropout.

Shapes: S any leading shape of tokens, (B, T) in training and (n,) in the engine; H heads, K key-value heads,
D head size, M model width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twobills.specs.model import ModelSpec, check_own_network


class Attend(Protocol):
    """How one layer attends: queries (S, H, D), keys and values (S, K, D) to the mixed values (S, H, D)."""

    def __call__(self, layer: int, q_SHD: Tensor, k_SKD: Tensor, v_SKD: Tensor, /) -> Tensor: ...


class RMSNorm(nn.Module):
    """Scale to unit root mean square, then by a learned weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last dimension; same shape."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions, all but the mixing itself."""

    def __init__(self, model: ModelSpec, layer: int) -> None:
        super().__init__()
        self.layer, self.d_head = layer, model.d_head
        self.q_proj = nn.Linear(model.d_model, model.n_heads * model.d_head, bias=False)
        self.k_proj = nn.Linear(model.d_model, model.n_kv_heads * model.d_head, bias=False)
        self.v_proj = nn.Linear(model.d_model, model.n_kv_heads * model.d_head, bias=False)
        self.o_proj = nn.Linear(model.n_heads * model.d_head, model.d_model, bias=False)
        self.q_norm = RMSNorm(model.d_head, model.norm_eps) if model.qk_norm else None
        self.k_norm = RMSNorm(model.d_head, model.norm_eps) if model.qk_norm else None

    def forward(self, x_SM: Tensor, rotary: Rotary, attend: Attend) -> Tensor:
        """(S, M) to (S, M)."""
        q, k, v = (
            projection(x_SM).unflatten(-1, (-1, self.d_head)) for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.q_norm and self.k_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        mixed = attend(self.layer, rotary(q), rotary(k), v)
        return self.o_proj(mixed.flatten(-2))  # type: ignore[no-any-return]


class GatedMLP(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(model.d_model, model.d_ff, bias=False)
        self.up_proj = nn.Linear(model.d_model, model.d_ff, bias=False)
        self.down_proj = nn.Linear(model.d_ff, model.d_model, bias=False)

    def forward(self, x_SM: Tensor) -> Tensor:
        """(S, M) to (S, M)."""
        return self.down_proj(F.silu(self.gate_proj(x_SM)) * self.up_proj(x_SM))  # type: ignore[no-any-return]


class PlainMLP(nn.Module):
    """down(relu(up(x))^2), nothing gated (So et al. 2021; Arcee)."""

    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        self.up_proj = nn.Linear(model.d_model, model.d_ff, bias=False)
        self.down_proj = nn.Linear(model.d_ff, model.d_model, bias=False)

    def forward(self, x_SM: Tensor) -> Tensor:
        """(S, M) to (S, M)."""
        return self.down_proj(F.relu(self.up_proj(x_SM)).square())  # type: ignore[no-any-return]


class Layer(nn.Module):
    """One block: attention and MLP, each behind its norm and beside a residual."""

    def __init__(self, model: ModelSpec, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(model, layer)
        self.mlp = GatedMLP(model) if model.gated_mlp else PlainMLP(model)
        self.input_layernorm = RMSNorm(model.d_model, model.norm_eps)
        self.post_attention_layernorm = RMSNorm(model.d_model, model.norm_eps)

    def forward(self, x_SM: Tensor, rotary: Rotary, attend: Attend) -> Tensor:
        """(S, M) to (S, M)."""
        x_SM = x_SM + self.self_attn(self.input_layernorm(x_SM), rotary, attend)
        return x_SM + self.mlp(self.post_attention_layernorm(x_SM))  # type: ignore[no-any-return]


class Trunk(nn.Module):
    """Embedding, layers and the last norm (Hugging Face calls this ``model``)."""

    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(model.vocab_size, model.d_model)
        self.layers = nn.ModuleList(Layer(model, i) for i in range(model.n_layers))
        self.norm = RMSNorm(model.d_model, model.norm_eps)


class Decoder(nn.Module):
    """The whole network. Weights are uninitialised until ``initialise`` or ``load_state_dict``.

    Raises SpecError for a shape that is none of Llama's, Qwen3's and Arcee's.
    """

    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        check_own_network(model)
        self.spec = model
        self.model = Trunk(model)
        self.lm_head = nn.Linear(model.d_model, model.vocab_size, bias=False)
        if model.tied_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def hidden(self, tokens_S: Tensor, positions_S: Tensor, attend: Attend) -> Tensor:
        """The last layer's normalised activations, (S, M). ``positions_S`` broadcasts against the tokens."""
        x_SM = self.model.embed_tokens(tokens_S)
        rotary = Rotary(positions_S, self.spec, x_SM.dtype)
        for layer in self.model.layers:
            x_SM = layer(x_SM, rotary, attend)
        return self.model.norm(x_SM)  # type: ignore[no-any-return]

    def logits(self, hidden_SM: Tensor) -> Tensor:
        """Next-token logits (S, V) in fp32: what is normalised over thousands of tokens is not left in bf16."""
        return self.lm_head(hidden_SM).float()  # type: ignore[no-any-return]

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Normal(0, 0.02), the two projections into the residual stream scaled by 1/sqrt(2 n_layers) (GPT-2)."""
        into_residual = 0.02 / math.sqrt(2 * self.spec.n_layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                std = into_residual if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
                parameter.normal_(std=std, generator=generator)
            else:
                parameter.fill_(1.0)


class Rotary:
    """Turns pairs of a head's halves by angles that grow with position (Su et al. 2021; Llama's half-split layout).

    A roll by half a head swaps the halves, and the sine carries the sign of the swapped one: three calls, and a
    gradient that is a roll again.
    """

    def __init__(self, positions_S: Tensor, model: ModelSpec, dtype: torch.dtype) -> None:
        even = torch.arange(0, model.d_head, 2, device=positions_S.device, dtype=torch.float32)
        angles = positions_S[..., None].float() * model.rope_theta ** (-even / model.d_head)  # (S, D/2)
        cos, sin = angles.cos(), angles.sin()
        self._half = model.d_head // 2
        self._cos_S1D = torch.cat((cos, cos), dim=-1)[..., None, :].to(dtype)
        self._sin_S1D = torch.cat((-sin, sin), dim=-1)[..., None, :].to(dtype)

    def __call__(self, x_SHD: Tensor) -> Tensor:
        return torch.addcmul(x_SHD * self._cos_S1D, x_SHD.roll(self._half, -1), self._sin_S1D)
