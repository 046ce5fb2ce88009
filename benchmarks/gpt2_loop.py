"""The peer of `time_to_quality.py`: a GPT-2-style network and its AdamW loop, as people write them, with care.

Learned positions, LayerNorm with biases, GELU, tied embeddings, GPT-2's initialisation, PyTorch's own attention; AdamW
(fused, betas 0.9 and 0.95, decay on matrices only), gradients clipped at 1, linear warm-up and a cosine to a tenth;
bf16 autocast, which is the fastest format that such a loop has on a CPU with bf16 units.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm and beside a residual."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.ln_1, self.ln_2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.qkv, self.out = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model)
        self.up, self.down = nn.Linear(d_model, 4 * d_model), nn.Linear(4 * d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, M) to the same."""
        q, k, v = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in self.qkv(self.ln_1(x)).chunk(3, -1)
        )
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2))
        return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    """The whole network; the head is the embedding."""

    def __init__(self, *, n_layers: int, d_model: int, n_heads: int, vocab_size: int, seq_len: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab_size, d_model), nn.Embedding(seq_len, d_model)
        self.blocks = nn.Sequential(*(Block(d_model, n_heads) for _ in range(n_layers)))
        self.ln_f = nn.LayerNorm(d_model)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                into_residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * n_layers) if into_residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) to logits (B, T, V)."""
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        return F.linear(self.ln_f(self.blocks(x)), self.wte.weight)


class Loop:
    """The network in training."""

    def __init__(self, network: GPT2, *, lr: float, weight_decay: float = 0.1) -> None:
        self.network, self.lr = network, lr
        matrices = [p for p in network.parameters() if p.dim() == 2]
        others = [p for p in network.parameters() if p.dim() != 2]
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=True)

    def step(self, inputs: Tensor, targets: Tensor, *, progress: float) -> float:
        """One update at ``progress`` (0 to 1); the mean loss, nats."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * schedule(progress)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(self.network(inputs).flatten(0, 1).float(), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    @torch.no_grad()
    def nats(self, inputs: Tensor, targets: Tensor) -> float:
        """Summed loss of a batch, -1 not being a target."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.network(inputs).flatten(0, 1).float()
        return F.cross_entropy(logits, targets.flatten(), ignore_index=-1, reduction="sum").item()


def schedule(progress: float, warmup: float = 0.03) -> float:
    """Of the peak rate: linear up, then a cosine to a tenth."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    done = (progress - warmup) / (1 - warmup)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(done, 1.0)))
