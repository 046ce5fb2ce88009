"""The passes by hand are autograd's, whatever the shape, the parts, the attention and the documents."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models import SMALL
from twobills.jobs.data.batch import IGNORED, Batch
from twobills.jobs.device import Device
from twobills.jobs.nn.attention import CausalAttention
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.loss import chunked_cross_entropy
from twobills.jobs.training import choices
from twobills.jobs.training.choices import choose_blocks, repays_compiling
from twobills.jobs.training.flat import FlatWeights
from twobills.jobs.training.passes import ByHand, ThroughAutograd
from twobills.jobs.training.step import TrainingStep
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.training import TrainingSpec

CPU = torch.device("cpu")
T = 24
SHAPES = {
    "llama": SMALL,
    "every head its own keys": replace(SMALL, n_kv_heads=2),
    "a head of its own": replace(SMALL, tied_embeddings=False),
    "qwen3": replace(SMALL, qk_norm=True),
    "arcee": replace(SMALL, gated_mlp=False, activation="relu2"),
}


def spec(**change: object) -> TrainingSpec:
    fields = {"n_steps": 4, "batch_size": 4, "seq_len": T, "dtype": DType.FP32, "heldout_tokens": 0, **change}
    return TrainingSpec(**fields)  # type: ignore[arg-type]


def network_of(model: ModelSpec) -> Decoder:
    """Weights as far from their symmetric beginning as training takes them."""
    network, generator = Decoder(model), torch.Generator().manual_seed(0)
    network.initialise(generator)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise, alpha=0.1 if parameter.dim() == 1 else 0.05)
    return network


def batch_of(*, documents: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, SMALL.vocab_size, (4, T + 1), generator=generator)
    targets = tokens[:, 1:].clone()
    targets[0, :7] = IGNORED
    numbers = torch.randint(0, 2, (4, T), generator=generator).cumsum(1) if documents else None
    return Batch(tokens[:, :-1].contiguous(), targets, numbers)


def by_autograd(network: Decoder, batch: Batch, flat: FlatWeights) -> tuple[float, Tensor]:
    """Loss and gradients by the plainest way there is."""
    attend = CausalAttention(T, CPU, flat.work.dtype).within(batch.documents)
    logits = network.logits(network.hidden(batch.inputs, torch.arange(T), attend)).flatten(0, 1)
    loss = F.cross_entropy(logits.to(flat.work.dtype), batch.targets.flatten(), ignore_index=IGNORED)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = flat.grad.clone()
    flat.grad.zero_()
    return loss.item(), gradients


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_blocks", [0, 1, 2])
@pytest.mark.parametrize("documents", [False, True])
def test_the_passes_by_hand_are_autograds(shape: str, n_blocks: int, documents: bool) -> None:
    network, batch = network_of(SHAPES[shape]), batch_of(documents=documents)
    flat = FlatWeights(network, torch.float64)
    loss, gradients = by_autograd(network, batch, flat)
    for parts in (1, 3):
        found = ByHand(network, flat, spec(accumulate=parts), n_blocks)(batch, batch.n_targets)
        assert found.item() == pytest.approx(loss, rel=1e-6)  # the rotary tables are made in fp32
        error = (flat.grad - gradients).norm() / gradients.norm()
        assert error < 1e-6
        flat.grad.zero_()


def test_by_hand_in_bf16_is_as_near_to_exact_gradients_as_autograd_is() -> None:
    errors = {}
    network, batch = network_of(SMALL), batch_of()
    _, exact = by_autograd(network, batch, FlatWeights(network, torch.float32))
    flat = FlatWeights(network, torch.bfloat16)
    _, errors["autograd"] = by_autograd(network, batch, flat)
    ByHand(network, flat, spec(dtype=DType.BF16), 2)(batch, batch.n_targets)
    errors["by hand"] = flat.grad
    by_hand, autograd = ((errors[way].float() - exact).norm() for way in ("by hand", "autograd"))
    assert by_hand < 1.1 * autograd
    assert by_hand < 0.05 * exact.norm()


@pytest.mark.parametrize("shape", ["llama", "arcee"])
def test_through_autograd_is_the_same_batch(shape: str) -> None:
    network, batch = network_of(SHAPES[shape]), batch_of(documents=True)
    flat = FlatWeights(network, torch.float32)
    loss, gradients = by_autograd(network, batch, flat)
    run = ThroughAutograd(network, CausalAttention(T, CPU, torch.float32), spec(accumulate=2), CPU)
    assert run(batch, batch.n_targets).item() == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(flat.grad, gradients, rtol=1e-4, atol=1e-6)


def test_tokens_of_another_document_change_nothing() -> None:
    network = network_of(SMALL)
    documents = torch.tensor([[0] * 10 + [1] * 14])
    attend = CausalAttention(T, CPU, torch.float32).within(documents)
    a = torch.arange(T)[None]
    b = a.clone()
    b[0, :10] = 7
    with torch.no_grad():
        change = (network.hidden(a, torch.arange(T), attend) - network.hidden(b, torch.arange(T), attend)).abs()
    assert (change[0, 10:] == 0).all()
    assert (change[0, :10] > 0).any()


@pytest.mark.parametrize("vocab_size", [7, 70_000])
def test_a_loss_in_chunks_is_the_whole_loss(vocab_size: int) -> None:
    """Of the larger vocabulary a chunk holds fewer tokens than there are."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (100, vocab_size))
    hidden.requires_grad_()
    weight.requires_grad_()
    targets = torch.randint(0, vocab_size, (100,), generator=generator)
    targets[:3] = IGNORED
    losses = (
        F.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORED),
        chunked_cross_entropy(hidden, weight, targets, 97),
    )
    results = [(loss, *torch.autograd.grad(3 * loss, (hidden, weight))) for loss in losses]
    for plain, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, plain)


def step_of(**change: object) -> TrainingStep:
    return TrainingStep(network_of(SMALL), spec(**change), Device(CPU, "test", 1, 1e9))


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_loaded_state_goes_on_to_the_same_bits(optimizer: str) -> None:
    first, second = step_of(optimizer=optimizer), step_of(optimizer=optimizer)
    batch = batch_of()
    first(batch, lr_scale=1.0)
    for name, tensor in second.state().items():
        tensor.copy_(first.state()[name])
    second.choose(first.choices)
    second.refresh()
    assert first(batch, lr_scale=0.5) == second(batch, lr_scale=0.5)
    for (name, a), (_, b) in zip(first.network.state_dict().items(), second.network.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_each_optimiser_learns_and_says_the_gradients_norm(optimizer: str) -> None:
    step, batch = step_of(optimizer=optimizer, lr=3e-3), batch_of()
    results = [step(batch, lr_scale=1.0) for _ in range(8)]
    assert results[-1].loss < 0.8 * results[0].loss
    network = network_of(SMALL)
    _, gradients = by_autograd(network, batch, FlatWeights(network, torch.float32))
    assert results[0].grad_norm == pytest.approx(gradients.norm().item(), rel=1e-4)


def test_a_batch_may_be_cut_anyhow() -> None:
    results = [step_of(accumulate=n)(batch_of(), lr_scale=1.0) for n in (1, 2, 4)]
    for result in results[1:]:
        assert result.loss == pytest.approx(results[0].loss, rel=1e-5)
        assert result.grad_norm == pytest.approx(results[0].grad_norm, rel=1e-4)


def test_attention_is_timed_where_it_matters_and_the_rule_holds_unless_another_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = {0: 1.0, 2: 0.7}
    monkeypatch.setattr(choices, "_attention_s", lambda *args: seconds[args[-1]])
    large = {"batch_size": 32, "seq_len": 512}
    assert choose_blocks(SMALL, spec(dtype=DType.BF16, **large)) == 2
    assert choose_blocks(SMALL, spec(dtype=DType.FP32, **large)) == 2
    seconds[2] = 0.9
    assert choose_blocks(SMALL, spec(dtype=DType.FP32, **large)) == 0
    seconds[2] = 2.0
    assert choose_blocks(SMALL, spec(dtype=DType.BF16, **large)) == 0
    assert choose_blocks(SMALL, spec(dtype=DType.BF16, seq_len=32)) == 2  # too small to be worth the probe


def test_attention_really_is_timed() -> None:
    assert choices._attention_s(SMALL, spec(), 4, 2) > 0


def test_a_short_run_is_not_compiled_and_a_long_one_is() -> None:
    device = Device(CPU, "test", 1, 1e9)
    assert not repays_compiling(SMALL, spec(n_steps=100), device)
    assert repays_compiling(SMALL, spec(n_steps=10**9), device)
    assert repays_compiling(SMALL, spec(compile=True), device)
    assert not repays_compiling(SMALL, spec(n_steps=10**9, compile=False), device)


@pytest.mark.parametrize(
    ("said", "kept", "compiled"), [(True, 0, True), (False, 1, False), ("auto", 1, True), ("auto", 0, False)]
)
def test_a_run_that_goes_on_keeps_its_choices_but_for_what_is_said(said: bool | str, kept: int, compiled: bool) -> None:
    step = TrainingStep(network_of(SMALL), spec(compile=said), Device(torch.device("cpu"), "test", 1, 1e9))
    step.choose({"attention_blocks": 7, "compiled": kept, "native": 0})
    assert step.choices["attention_blocks"] == 7
    assert bool(step.choices["compiled"] or step.choices["native"]) == compiled


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["llama", "arcee"])
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_step_is_the_eager_one(shape: str) -> None:
    results = []
    for compiled in (False, True):
        device = Device(CPU, "test", 1, 1e9)
        step = TrainingStep(network_of(SHAPES[shape]), spec(compile=compiled), device)
        results.append([step(batch_of(), lr_scale=1.0) for _ in range(3)])
    for eager, compiled_result in zip(*results, strict=True):
        assert compiled_result.loss == pytest.approx(eager.loss, rel=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("documents", [False, True])
def test_a_gpus_step_is_the_cpus(compiled: bool, documents: bool) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    results = []
    for torch_device in (CPU, torch.device("cuda", 0)):
        device = Device(torch_device, "test", 1, 1e9)
        step = TrainingStep(network_of(SMALL), spec(dtype=DType.BF16, compile=compiled), device)
        results.append([step(batch_of(documents=documents), lr_scale=1.0).loss for _ in range(3)])
    assert results[1] == pytest.approx(results[0], rel=0.02)
