"""Forward and backward through the whole network by hand, weight gradients straight into the flat buffer.

The batch goes through in parts of some thousand tokens, whose activations stay in the processor's caches; a part's
gradients are added to those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from twobills.jobs.data.batch import Batch
from twobills.jobs.nn.by_hand import LayerTensors, layer_backward, layer_forward, normalise, normalise_backward
from twobills.jobs.nn.loss import head_loss
from twobills.jobs.nn.mixing import Mixing
from twobills.jobs.training.flat import FlatWeights
from twobills.specs.model import ModelSpec

EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTensors:
    """The network's weights, or their gradients, as the passes use them."""

    embedding: Tensor
    layers: Sequence[LayerTensors]
    norm: Tensor
    head: Tensor


class HandPass:
    """One network over its flat weights."""

    def __init__(self, spec: ModelSpec, flat: FlatWeights) -> None:
        self._spec = spec
        self._weights, self._grads = (_tensors(spec, flat, storage) for storage in (flat.work, flat.grad))
        self.forward: Callable[..., tuple[Tensor, Any]] = layer_forward
        self.backward: Callable[..., Tensor] = layer_backward

    def __call__(self, part: Batch, mixing: Mixing, n_targets: int) -> Tensor:
        """This part's share of the batch's mean loss; its gradients are added to the flat ones."""
        spec, weights, grads = self._spec, self._weights, self._grads
        tokens, targets = part.inputs.flatten(), part.targets.flatten()
        x, kept = torch.embedding(weights.embedding, tokens), []
        for layer in weights.layers:
            x, saved = self.forward(x, layer, spec, mixing)
            kept.append(saved)
        normed = normalise(x, spec.norm_eps)
        found = head_loss(normed.unit * weights.norm, weights.head, targets, n_targets, grads.head)
        grad = normalise_backward(found.grad_hidden, normed, weights.norm, grads.norm)
        for layer, into in zip(reversed(weights.layers), reversed(grads.layers), strict=True):
            grad = self.backward(grad, kept.pop(), layer, into, spec, mixing)
        self._embedding_backward(grad, tokens)
        return found.loss

    def _embedding_backward(self, grad: Tensor, tokens: Tensor) -> None:
        """Summed in fp32: a frequent token's row is a sum over thousands."""
        into = self._grads.embedding
        summed = torch.zeros(into.shape, dtype=torch.promote_types(grad.dtype, torch.float32), device=into.device)
        summed.index_add_(0, tokens, grad.to(summed.dtype))
        into.add_(summed)


def _tensors(spec: ModelSpec, flat: FlatWeights, storage: Tensor) -> NetworkTensors:
    at = dict(flat.views(storage))
    layers = [_layer(spec, flat, storage, at, f"model.layers.{i}.") for i in range(spec.n_layers)]
    head = at[EMBEDDING if spec.tied_embeddings else HEAD]
    return NetworkTensors(embedding=at[EMBEDDING], layers=layers, norm=at[NORM], head=head)


def _layer(spec: ModelSpec, flat: FlatWeights, storage: Tensor, at: dict[str, Tensor], layer: str) -> LayerTensors:
    up = ("gate", "up") if spec.gated_mlp else ("up",)
    return LayerTensors(
        norm_1=at[f"{layer}input_layernorm.weight"],
        qkv=flat.joined(storage, [f"{layer}self_attn.{x}_proj.weight" for x in "qkv"]),
        out=at[f"{layer}self_attn.o_proj.weight"],
        norm_2=at[f"{layer}post_attention_layernorm.weight"],
        up=flat.joined(storage, [f"{layer}mlp.{x}_proj.weight" for x in up]),
        down=at[f"{layer}mlp.down_proj.weight"],
        q_norm=at.get(f"{layer}self_attn.q_norm.weight"),
        k_norm=at.get(f"{layer}self_attn.k_norm.weight"),
    )
