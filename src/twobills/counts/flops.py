"""How many FLOPs a model takes, in training and in serving.

A multiply-add is 2 FLOPs; only matrix products count (no norms, softmax, rotations, look-ups, optimiser). "Model
FLOPs" discount attention's masked half, as MFU wants; "executed FLOPs" count what a kernel that multiplies the
whole square really does, as a profiler sees them. Backward is twice forward.
"""

from __future__ import annotations

from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.specs.model import ModelSpec

MFU_CONVENTION = "6 x matmul parameters + causal attention, a multiply-add is 2 FLOPs"


def forward_flops(model: ModelSpec, *, n_tokens: float, n_attended: float, n_logits: float) -> float:
    """FLOPs of one forward pass.

    ``n_attended``: keys that the tokens attend to, summed over the tokens, as executed (padding included if it is
    multiplied). ``n_logits``: positions whose logits are computed.
    """
    params = count_params(model)
    attention = 4 * model.n_layers * model.n_heads * model.d_head
    return 2 * params.layer_matmul * n_tokens + attention * n_attended + 2 * params.head * n_logits


def train_flops_per_token(model: ModelSpec, seq_len: int) -> float:
    """Model FLOPs to train on one token, forward and backward.

    6·(matmul params) + 6·n_layers·n_heads·d_head·seq_len: attention is causal, half of the square that PaLM's
    formula counts. Leaves out what the module leaves out, and recomputation.

    Raises SpecError if seq_len exceeds model.max_seq_len.
    Ref: Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, appendix B.
    """
    if not 1 <= seq_len <= model.max_seq_len:
        raise SpecError(f"seq_len={seq_len}: must be between 1 and max_seq_len={model.max_seq_len}")
    return 6 * count_params(model).matmul + 6 * model.n_layers * model.n_heads * model.d_head * seq_len


def executed_train_flops(model: ModelSpec, *, batch_size: int, seq_len: int) -> float:
    """FLOPs that a step really executes when attention multiplies the whole square, forward and backward."""
    n_tokens = batch_size * seq_len
    return 3 * forward_flops(model, n_tokens=n_tokens, n_attended=n_tokens * seq_len, n_logits=n_tokens)
