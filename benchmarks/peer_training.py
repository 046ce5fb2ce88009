"""The training loops that ours is compared with, on the same shape and data; needs PyTorch and transformers only.

``transformers``: ``LlamaForCausalLM`` with AdamW (fused) and gradient clipping as its Trainer has, in fp32, under bf16
autocast, and in pure bf16. ``gpt``: the plain GPT-2-style loop that many begin with (learned positions, LayerNorm,
GELU of four times the width, tied head, PyTorch's attention), in fp32, under autocast, and compiled under autocast.

    python benchmarks/peer_training.py gpt-autocast DATA.npy --threads 1 --steps 4

Prints one JSON line: seconds of every timed step, and the limit of matrix products in this process before and after.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from timed_steps import CONTEXT, HEADS, LAYERS, VOCABULARY, WIDTH, batches, timed

PEERS = (
    *("transformers-fp32", "transformers-autocast", "transformers-bf16"),
    *("gpt-fp32", "gpt-autocast", "gpt-autocast-compiled"),
)
Loss = Callable[[Tensor, Tensor], Tensor]


class Block(nn.Module):
    """One layer as GPT-2 has it, without biases."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, M) to the same."""
        B, T, M = x.shape
        q, k, v = (y.view(B, T, HEADS, -1).transpose(1, 2) for y in self.qkv(self.norm_1(x)).split(M, dim=2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, T, M))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class GPT(nn.Module):
    """The loss of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH, bias=False), nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                into_residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS) if into_residual else 0.02)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean nats per token."""
        x = self.blocks(self.tokens(inputs) + self.positions.weight)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def peer_step(name: str, batch: Callable[[int], tuple[Tensor, Tensor]]) -> Callable[[int], float]:
    """One step of the loop of this name."""
    torch.manual_seed(0)
    network, loss_of = _transformers() if name.startswith("transformers") else _gpt()
    network = network.bfloat16() if name.endswith("-bf16") else network
    matrices = [p for p in network.parameters() if p.dim() == 2]
    others = [p for p in network.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)
    run: Loss = torch.compile(loss_of, dynamic=False) if name.endswith("compiled") else loss_of

    def step(i: int) -> float:
        with torch.autocast("cpu", torch.bfloat16) if "autocast" in name else nullcontext():
            loss = run(*batch(i))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def _gpt() -> tuple[nn.Module, Loss]:
    network = GPT()
    return network, network


def _transformers() -> tuple[nn.Module, Loss]:
    """The gated MLP's width gives both networks the same number of matrix parameters."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=8 * WIDTH // 3,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    network = LlamaForCausalLM(config)

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        logits = network(input_ids=inputs).logits
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    return network, loss_of


def main() -> None:
    """Times one peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("data", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(json.dumps(timed(peer_step(given.peer, batches(given.data)), given.threads, given.steps)))


if __name__ == "__main__":
    main()
