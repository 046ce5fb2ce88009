"""The forecast of memory against what is held: tensors kept, PyTorch's own running total, the kernel's figure."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models import SMALL
from twobills.counts.memory import attention_blocks
from twobills.counts.training_memory import kept_by_autograd, kept_by_hand, rows_at_once, step_memory
from twobills.jobs.data.batch import Batch
from twobills.jobs.device import Device
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.peak_memory import resident_bytes
from twobills.jobs.training.passes import ThroughAutograd
from twobills.jobs.training.step import TrainingStep
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.training import TrainingSpec

CPU = Device(torch.device("cpu"), "test", 1, 1e10)
MIDDLE = replace(SMALL, n_layers=3, d_model=128, n_heads=4, d_ff=352, vocab_size=512, max_seq_len=256)
SHAPES = {
    "llama": MIDDLE,
    "arcee": replace(MIDDLE, activation="relu2", gated_mlp=False),
    "qwen3": replace(MIDDLE, qk_norm=True, tied_embeddings=False),
    "a large vocabulary": replace(MIDDLE, n_layers=1, vocab_size=20_000),
}
BATCH, SEQ_LEN = 17, 128
DTYPES = [DType.BF16, DType.FP32]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def begun(model: ModelSpec, dtype: DType, optimizer: str = "muon") -> tuple[TrainingStep, Batch]:
    """A step that was taken once, run as the plan takes it to run."""
    network = Decoder(model)
    network.initialise(torch.Generator().manual_seed(0))
    spec = TrainingSpec(
        n_steps=9, batch_size=BATCH, seq_len=SEQ_LEN, dtype=dtype, heldout_tokens=0, optimizer=optimizer
    )
    step = TrainingStep(network, spec, CPU)
    step.choose({**step.choices, "attention_blocks": attention_blocks(SEQ_LEN, dtype), "compiled": 0})
    tokens = torch.randint(0, model.vocab_size, (BATCH, SEQ_LEN), generator=torch.Generator().manual_seed(1))
    batch = Batch(tokens, tokens)
    step(batch, lr_scale=1.0)
    return step, batch


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Of the memory under the tensors, each piece once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)


class Allocated:
    """PyTorch's own record of what was allocated and freed; the largest sum is the peak."""

    def __enter__(self) -> Allocated:
        activities = [torch.profiler.ProfilerActivity.CPU]
        profile: Any = torch.profiler.profile(profile_memory=True, activities=activities)
        self._profile = profile
        profile.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._profile.__exit__(*error)
        profiler: Any = self._profile.profiler
        events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
        now = self.peak_bytes = 0
        for event in sorted(events, key=lambda e: e.start_ns()):
            now += event.nbytes()
            self.peak_bytes = max(self.peak_bytes, now)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_layers_keep_by_hand_is_counted_to_the_byte(shape: str, dtype: DType) -> None:
    model = SHAPES[shape]
    step, batch = begun(model, dtype)
    hands: Any = step._pass._hands  # type: ignore[attr-defined]
    forward, kept = hands.forward, []

    def spy(*args: Any) -> Any:
        out, saved = forward(*args)
        kept.append(saved)
        return out, saved

    hands.forward = spy
    part = batch.rows(0, 2)
    with torch.no_grad():
        step._pass(part, batch.n_targets)
    counted = kept_by_hand(model, part.inputs.numel(), SEQ_LEN, dtype)
    assert storage_bytes(t for saved in kept for t in tensors_in(tuple(saved))) == counted


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_state_is_counted_to_the_byte(dtype: DType, optimizer: str) -> None:
    step, _ = begun(MIDDLE, dtype, optimizer)
    optimiser: Any = step.optimizer
    parts = [*optimiser._adam, *([optimiser._muon] if optimiser._muon else [])]
    held = [t for part in parts for t in vars(part).values() if isinstance(t, Tensor)]
    held += [stack._stacked for stack in optimiser._muon._stacks] if optimiser._muon else []
    flat = optimiser.flat
    total = storage_bytes([*held, flat.master, flat.work, flat.grad])
    memory = step_memory(MIDDLE, n_rows=1, seq_len=SEQ_LEN, dtype=dtype, optimizer=optimizer)
    assert total == memory.state_bytes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_peak_of_a_step_is_the_forecast(shape: str, dtype: DType) -> None:
    model = SHAPES[shape]
    step, batch = begun(model, dtype)
    with Allocated() as passes, torch.no_grad():
        step._pass(batch, batch.n_targets)
    with Allocated() as update:
        step.optimizer.step(1.0)
    n_rows = rows_at_once(BATCH, SEQ_LEN)
    memory = step_memory(model, n_rows=n_rows, seq_len=SEQ_LEN, dtype=dtype)
    assert passes.peak_bytes == pytest.approx(memory.part_bytes, rel=0.15)
    assert update.peak_bytes == pytest.approx(memory.update_bytes, rel=0.15)


class FusedNorm(torch.autograd.Function):
    """Keeps what PyTorch's fused kernel keeps on a GPU; on a CPU it has none, and keeps more."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = (torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32) / x.shape[-1] + eps).rsqrt()
        ctx.save_for_backward(x, weight, inverse)
        out: Tensor = (x * inverse).to(x.dtype) * weight
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None]:
        del grads
        x, weight, _ = ctx.saved_tensors
        return torch.zeros_like(x), torch.zeros_like(weight), None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_through_autograd_it_is_forecast_as_well(shape: str, dtype: DType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU runs, on this CPU: the same network, the fused attention kernel, a stand-in for the fused norm."""
    monkeypatch.setattr(F, "rms_norm", lambda x, _, weight, eps: FusedNorm.apply(x, weight, eps))  # type: ignore[no-untyped-call]
    model = SHAPES[shape]
    step, batch = begun(model, dtype)
    step.attend.blocks = ()
    mine = {p.untyped_storage().data_ptr() for p in step.network.parameters()}
    kept: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        step.network.hidden(batch.inputs, torch.arange(SEQ_LEN), step.attend)
    layers = storage_bytes(x for x in kept if x.untyped_storage().data_ptr() not in mine)
    last = 2 * batch.inputs.numel() * model.d_model * dtype.bytes  # the last norm's, and shared tables
    assert layers == pytest.approx(kept_by_autograd(model, batch.inputs.numel(), dtype) + last / 2, rel=0.05)
    kept.clear()
    with Allocated() as passes:
        ThroughAutograd(step.network, step.attend, step.spec, CPU.torch_device)(batch, batch.n_targets)
    memory = step_memory(model, n_rows=BATCH, seq_len=SEQ_LEN, dtype=dtype, by_hand=False)
    assert passes.peak_bytes == pytest.approx(memory.part_bytes, rel=0.15)


GROWTH = """
import torch
from dataclasses import replace
from tests.jobs.training.test_memory import CPU, MIDDLE, begun
from twobills.jobs.peak_memory import PeakMemory
from twobills.specs.dtype import DType
torch.set_num_threads(1)
begun(replace(MIDDLE, n_layers=1, d_model=64, d_ff=64, vocab_size=320), DType.{dtype})  # kernels, libraries
watch = PeakMemory(CPU)
step, batch = begun(replace(MIDDLE, d_model={d_model}, d_ff={d_ff}, vocab_size=8192), DType.{dtype})
step(batch, lr_scale=1.0)
print(watch.read())
"""


@pytest.mark.skipif(resident_bytes() is None, reason="the kernel does not say what is resident")
@pytest.mark.parametrize(("d_model", "d_ff", "dtype"), [(512, 1408, DType.BF16), (512, 1408, DType.FP32)])
def test_the_process_grows_as_forecast(d_model: int, d_ff: int, dtype: DType) -> None:
    """Within 40 %: the allocator's holes and libraries' scratch space are not forecast."""
    script = GROWTH.format(d_model=d_model, d_ff=d_ff, dtype=dtype.name)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    model = replace(MIDDLE, d_model=d_model, d_ff=d_ff, vocab_size=8192)
    memory = step_memory(model, n_rows=rows_at_once(BATCH, SEQ_LEN), seq_len=SEQ_LEN, dtype=dtype)
    assert int(done.stdout) == pytest.approx(memory.peak_bytes, rel=0.4)
