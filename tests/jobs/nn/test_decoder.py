"""Two truths about a model must agree: what is counted on its spec and what is built."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tests.models import RUNNABLE, SMALL
from twobills.counts.flops import forward_flops
from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.jobs.nn.attention import CausalAttention, SquareAttention
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.profile import count_flops
from twobills.jobs.nn.square import Block, blocks_of
from twobills.specs import catalog
from twobills.specs.model import ModelSpec

CPU = torch.device("cpu")


@pytest.mark.parametrize("model", [*RUNNABLE, SMALL], ids=lambda m: m.name)
def test_counted_parameters_are_the_built_networks(model: ModelSpec) -> None:
    with torch.device("meta"):
        network = Decoder(model)
    assert sum(p.numel() for p in network.parameters()) == count_params(model).total


def test_a_shape_that_the_network_does_not_have_is_refused() -> None:
    with pytest.raises(SpecError, match="our own network runs Llama, Qwen3 and Arcee shapes only"):
        Decoder(catalog.model("gpt2"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_counted_flops_are_the_profilers(dtype: torch.dtype) -> None:
    """The profiler counts matrix products, with all of attention's square that is multiplied: what is executed."""
    network = Decoder(SMALL).to(dtype)
    network.initialise(torch.Generator().manual_seed(0))
    tokens, positions = torch.zeros(3, 32, dtype=torch.int64), torch.arange(32)
    attend = CausalAttention(32, CPU, dtype)
    with count_flops() as counter, torch.no_grad():
        network.logits(network.hidden(tokens, positions, attend))
    n_tokens, keys = 3 * 32, 24 if dtype == torch.bfloat16 else 32
    expected = forward_flops(SMALL, n_tokens=n_tokens, n_attended=n_tokens * keys, n_logits=n_tokens)
    assert counter.get_total_flops() == expected


def test_the_fused_kernels_backward_pass_is_counted_with_its_recomputation() -> None:
    q, k = torch.randn(2, 4, 16, 8, requires_grad=True), torch.randn(2, 2, 16, 8)
    with count_flops() as counter:
        torch.nn.functional.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True).sum().backward()  # type: ignore[no-untyped-call]
    assert counter.get_total_flops() == (2 + 5) * 2 * 2 * 4 * 16 * 16 * 8


def test_square_attention_is_the_fused_kernels_mathematics() -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, 16, heads, 8, generator=generator, dtype=torch.float64) for heads in (4, 2, 2))
    for x in (q, k, v):
        x.requires_grad_()
    square = CausalAttention(16, CPU, torch.bfloat16)
    square.blocks = blocks_of(16, 2, dtype=torch.float64)
    fused = CausalAttention(16, CPU, torch.float64)
    assert square.square
    assert not fused.square
    results = []
    for attend in (square, fused):
        mixed = attend(0, q, k, v)
        results.append((mixed, *torch.autograd.grad(mixed.square().sum(), (q, k, v))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_square_attentions_gradients_are_right() -> None:
    q, k, v = (torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    for n_blocks in (1, 2, 5):
        blocks = blocks_of(5, n_blocks, dtype=torch.float64)
        assert torch.autograd.gradcheck(partial(_attend_square, blocks), (q, k, v))


def _attend_square(blocks: tuple[Block, ...], *qkv: torch.Tensor) -> torch.Tensor:
    return SquareAttention.apply(*qkv, blocks)  # type: ignore[no-untyped-call, no-any-return]


def test_no_token_sees_the_future() -> None:
    network = Decoder(SMALL)
    network.initialise(torch.Generator().manual_seed(0))
    attend, positions = CausalAttention(8, CPU, torch.float32), torch.arange(8)
    a = torch.arange(8)[None]
    b = a.clone()
    b[0, 5] = 99
    with torch.no_grad():
        difference = (network.hidden(a, positions, attend) - network.hidden(b, positions, attend)).abs()[0].sum(-1)
    assert (difference[:5] == 0).all()
    assert (difference[5:] > 0).all()
