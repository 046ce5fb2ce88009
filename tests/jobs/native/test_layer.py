"""The kernels' layer is the hand-written one's: as near to fp32 as bf16 can be, whatever the shape."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.models import SMALL
from twobills.jobs.data.batch import Batch
from twobills.jobs.device import Device
from twobills.jobs.native.kernels import Heads
from twobills.jobs.native.layer import NativeLayer, runs_natively
from twobills.jobs.native.library import runs_here
from twobills.jobs.nn.by_hand import LayerTensors, layer_backward, layer_forward
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.mixing import forbid, make_mixing
from twobills.jobs.training.step import TrainingStep
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.training import TrainingSpec

pytestmark = pytest.mark.skipif(not runs_here(), reason="no CPU with bf16 products and without AMX, or no C++ compiler")

LLAMA = replace(SMALL, d_model=64, n_heads=2, n_kv_heads=2, d_head=32, d_ff=96, max_seq_len=1024)
SHAPES = {
    "llama": (LLAMA, 2, 64),
    "shared keys, odd length": (replace(LLAMA, n_heads=6, n_kv_heads=2, d_model=192), 3, 37),
    "arcee": (replace(LLAMA, gated_mlp=False, activation="relu2"), 1, 100),
    "wide heads, many blocks": (replace(LLAMA, n_kv_heads=1, d_head=128, d_model=160, d_ff=320), 1, 513),
    "more tokens than are contracted at once": (LLAMA, 9, 256),
    "sequences of one token": (LLAMA, 64, 1),
}


def tensors(model: ModelSpec) -> LayerTensors:
    """Random weights of one layer, in fp32."""
    generator = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator).mul(columns**-0.5)

    M, D, n_up = model.d_model, model.d_head, model.d_ff * (2 if model.gated_mlp else 1)
    norms = 1 + 0.1 * torch.randn(2, M, generator=generator)
    qkv = matrix((model.n_heads + 2 * model.n_kv_heads) * D, M)
    out, up, down = matrix(M, model.n_heads * D), matrix(n_up, M), matrix(M, model.d_ff)
    return LayerTensors(norms[0], qkv, out, norms[1], up, down)


def there_and_back(
    model: ModelSpec, n_rows: int, seq_len: int, dtype: torch.dtype, native: NativeLayer | None, *, documents: bool
) -> list[Tensor]:
    """The layer's output and all gradients."""
    w = LayerTensors(*(None if x is None else x.to(dtype) for x in tensors(model)))  # type: ignore[arg-type]
    into = LayerTensors(*(None if x is None else torch.zeros_like(x) for x in w))  # type: ignore[arg-type]
    numbers = torch.arange(seq_len).div(max(1, seq_len // 3), rounding_mode="floor").repeat(n_rows, 1)
    mixing = make_mixing(model, n_rows=n_rows, seq_len=seq_len, n_blocks=2, dtype=dtype)
    mixing = mixing.within(forbid(numbers if documents else None, dtype))
    x, grad = torch.randn(2, n_rows * seq_len, model.d_model, generator=torch.Generator().manual_seed(1)).to(dtype)
    forward, backward = (native.forward, native.backward) if native else (layer_forward, layer_backward)
    out, kept = forward(x, w, model, mixing)
    return [out, backward(grad, kept, w, into, model, mixing), *(x for x in into if x is not None)]  # type: ignore[arg-type]


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_layer_is_as_near_to_fp32_as_by_hand(shape: str, documents: bool) -> None:
    true = there_and_back(*SHAPES[shape], torch.float32, None, documents=documents)
    by_hand = there_and_back(*SHAPES[shape], torch.bfloat16, None, documents=documents)
    natively = there_and_back(*SHAPES[shape], torch.bfloat16, NativeLayer(), documents=documents)
    for exact, hand, native in zip(true, by_hand, natively, strict=True):
        errors = [((x.float() - exact).norm() / exact.norm()).item() for x in (hand, native)]
        assert errors[1] < min(1.2 * errors[0], 0.015)


def test_threads_change_no_bit() -> None:
    before, found = torch.get_num_threads(), []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            shape = SHAPES["shared keys, odd length"]
            found.append(there_and_back(*shape, torch.bfloat16, NativeLayer(), documents=False))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_what_is_multiplied_of_the_square() -> None:
    """A block of 48 queries sees keys up to its last query's, in vectors of 16."""
    for seq_len in (1, 16, 47, 48, 49, 256):
        ends = [min((q // 48 + 1) * 48, seq_len) for q in range(seq_len)]
        assert Heads(3, seq_len, 2, 1, 32).n_scores == 6 * sum(-(-end // 16) * 16 for end in ends)


def test_which_networks_they_run() -> None:
    assert runs_natively(LLAMA, DType.BF16)
    assert not runs_natively(LLAMA, DType.FP32)
    assert not runs_natively(replace(LLAMA, qk_norm=True), DType.BF16)
    assert not runs_natively(replace(LLAMA, d_ff=72), DType.BF16)


def step_of(model: ModelSpec, *, compiled: bool | str) -> TrainingStep:
    network = Decoder(model)
    network.initialise(torch.Generator().manual_seed(0))
    spec = TrainingSpec(
        n_steps=50, batch_size=8, seq_len=64, dtype=DType.BF16, heldout_tokens=0, optimizer="adamw", lr=3e-3,
        compile=compiled,
    )  # fmt: skip
    return TrainingStep(network, spec, Device(torch.device("cpu"), "test", torch.get_num_threads(), 1e9))


def batch_of(model: ModelSpec) -> Batch:
    tokens = torch.randint(0, model.vocab_size, (8, 65), generator=torch.Generator().manual_seed(1))
    return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


def test_a_compiled_step_learns_what_the_eager_one_does() -> None:
    eager, native = (step_of(LLAMA, compiled=compiled) for compiled in (False, True))
    assert (eager.choices["native"], native.choices["native"], native.choices["compiled"]) == (0, 1, 0)
    batch = batch_of(LLAMA)
    losses = [(eager(batch, lr_scale=1.0).loss, native(batch, lr_scale=1.0).loss) for _ in range(20)]
    assert losses[-1][1] < 0.8 * losses[0][1]
    for a, b in losses:
        assert b == pytest.approx(a, rel=0.01)


def test_what_a_compiled_step_executes_is_counted_to_the_flop() -> None:
    """As by hand, but for attention: 7 products of what is multiplied of the square for 6 of the two blocks'."""
    eager, native = (step_of(LLAMA, compiled=compiled) for compiled in (False, True))
    for step in (eager, native):
        step(batch_of(LLAMA), lr_scale=1.0)
    n_heads_and_layers, by_hand = 8 * LLAMA.n_heads * LLAMA.n_layers, 32 * 32 + 32 * 64
    natively = 48 * 48 + 16 * 64
    difference = 2 * LLAMA.d_head * n_heads_and_layers * (7 * natively - 6 * by_hand)
    assert native.flops == eager.flops + difference
    assert native.bytes < eager.bytes


def test_a_compiled_step_goes_on_to_the_same_bits() -> None:
    first, second = (step_of(LLAMA, compiled=compiled) for compiled in (True, "auto"))
    batch = batch_of(LLAMA)
    first(batch, lr_scale=1.0)
    for name, tensor in second.state().items():
        tensor.copy_(first.state()[name])
    second.choose(first.choices)
    second.refresh()
    assert first(batch, lr_scale=0.5) == second(batch, lr_scale=0.5)
    for (name, a), (_, b) in zip(first.network.state_dict().items(), second.network.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
