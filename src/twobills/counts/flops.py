"""How many FLOPs a model takes, in training and in serving.

A multiply-add is 2 FLOPs; only matrix products count (no norms, softmax, rotations, look-ups, optimiser). "Model
FLOPs" discount attention's masked half, as MFU wants, and everything outside a layer's window; "executed FLOPs" count
what a kernel that multiplies the whole square really does, as a profiler sees them. Backward is twice forward. A token
is multiplied by its active experts only. Latent attention is counted with keys and values expanded to all heads.
"""

from __future__ import annotations

from twobills.counts.layers import LayerKind, attended_last, attended_per_token, layer_kinds
from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.specs.model import ModelSpec

MFU_CONVENTION = "6 x matmul parameters + causal attention, a multiply-add is 2 FLOPs"


def forward_flops(model: ModelSpec, *, n_tokens: float, n_attended: float, n_logits: float) -> float:
    """FLOPs of one forward pass.

    ``n_attended``: keys that the tokens attend to in a layer without a window, summed over the tokens, as executed
    (padding included if it is multiplied). ``n_logits``: positions whose logits are computed. A layer with a window
    is charged at most n_tokens windows: exact for tokens beyond it, an upper bound for a mixture.
    """
    params = count_params(model)
    attention = sum(_attention_flops(kind, _capped(kind, n_tokens, n_attended)) for kind in layer_kinds(model))
    return 2 * params.active_layer_matmul * n_tokens + attention + 2 * params.head * n_logits


def prefill_flops(model: ModelSpec, prompt_len: int) -> float:
    """Model FLOPs to read one prompt, with the logits of its last token."""
    attention = sum(
        _attention_flops(kind, prompt_len * attended_per_token(kind, prompt_len)) for kind in layer_kinds(model)
    )
    params = count_params(model)
    return 2 * params.active_layer_matmul * prompt_len + attention + 2 * params.head


def decode_flops(model: ModelSpec, context_len: int) -> float:
    """FLOPs of the pass of one token that attends to ``context_len`` tokens, itself included, with its logits."""
    attention = sum(_attention_flops(kind, attended_last(kind, context_len)) for kind in layer_kinds(model))
    return 2 * count_params(model).matmul_active + attention


def train_flops_per_token(model: ModelSpec, seq_len: int) -> float:
    """Model FLOPs to train on one token, forward and backward.

    6·(matmul params that are active) + 6·n_heads·(d_qk + d_value)·(mean tokens attended to), the latter summed over
    layers. Attention is causal, half of the square that PaLM's formula counts: without windows and latent attention
    the second term is 6·n_layers·n_heads·d_head·seq_len. Leaves out what the module leaves out, and recomputation.

    Raises SpecError if seq_len exceeds model.max_seq_len.
    Ref: Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, appendix B.
    """
    if not 1 <= seq_len <= model.max_seq_len:
        raise SpecError(f"seq_len={seq_len}: must be between 1 and max_seq_len={model.max_seq_len}")
    attention = sum(_attention_flops(kind, attended_per_token(kind, seq_len)) for kind in layer_kinds(model))
    return 6 * count_params(model).matmul_active + 3 * attention


def executed_train_flops(model: ModelSpec, *, batch_size: int, seq_len: int) -> float:
    """FLOPs that a step really executes when attention multiplies the whole square, forward and backward."""
    n_tokens = batch_size * seq_len
    return 3 * forward_flops(model, n_tokens=n_tokens, n_attended=n_tokens * seq_len, n_logits=n_tokens)


def _attention_flops(kind: LayerKind, n_attended: float) -> float:
    return kind.n_layers * kind.attention_flops_per_key * n_attended


def _capped(kind: LayerKind, n_tokens: float, n_attended: float) -> float:
    return n_attended if kind.window is None else min(n_attended, n_tokens * kind.window)
