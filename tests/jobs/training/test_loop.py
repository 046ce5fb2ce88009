"""The loop: a step that goes wrong says which and what to do; what is gone on with is where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.models import SMALL
from twobills.errors import TwobillsError
from twobills.jobs.data.batch import Batch
from twobills.jobs.device import Device, pick_device
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.guard import SpikeGuard
from twobills.jobs.training.loop import OutOfMemoryError, Step, Trainer, is_out_of_memory
from twobills.jobs.training.step import TrainingStep
from twobills.meter.meter import Meter
from twobills.meter.power import DeclaredPower
from twobills.specs.dtype import DType
from twobills.specs.training import TrainingSpec
from twobills.usage import Job, Phase


class Batches:
    """Random tokens, by step."""

    def __getitem__(self, step: int) -> Batch:
        tokens = torch.randint(SMALL.vocab_size, (4, 33), generator=torch.Generator().manual_seed(step))
        return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    threads = torch.get_num_threads()
    yield pick_device()
    torch.set_num_threads(threads)


def trainer(device: Device, guard: SpikeGuard | None = None, **change: Any) -> Trainer:
    values = {"n_steps": 12, "batch_size": 4, "seq_len": 32, "dtype": DType.BF16, "heldout_tokens": 0, **change}
    network = Decoder(SMALL)
    network.initialise(torch.Generator().manual_seed(0))
    return Trainer(network, TrainingSpec(**values), device, guard=guard)


def meter() -> Meter:
    return Meter(Job.TRAINING, n_chips=2, power=DeclaredPower(4.0, 2), resting=Phase.PRETRAIN)


def run(of: Trainer) -> list[Step]:
    return list(of.run(Batches(), meter()))


def state(of: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in of.tensors().items()}


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("dtype", [DType.BF16, DType.FP32])
def test_going_on_from_any_step_gives_the_same_bits(device: Device, optimizer: str, dtype: DType) -> None:
    change: dict[str, Any] = {"optimizer": optimizer, "dtype": dtype}
    whole = trainer(device, **change)
    kept: dict[int, tuple[dict[str, torch.Tensor], str]] = {}
    losses = []
    for step in whole.run(Batches(), meter()):
        kept[step.step] = state(whole), json.dumps(whole.notes())  # as a checkpoint keeps them: notes as JSON
        losses.append(step.loss)
    for n_done in (1, 5, 11):
        tensors, notes = kept[n_done]
        again = trainer(device, **change)
        for name, tensor in again.tensors().items():
            tensor.copy_(tensors[name])
        again.go_on(n_done, json.loads(notes))
        assert [step.loss for step in run(again)] == losses[n_done:]
        for name, tensor in kept[12][0].items():
            assert torch.equal(again.tensors()[name], tensor), name


def test_a_run_that_goes_on_otherwise_counts_its_steps_anew(device: Device) -> None:
    """Steps that run as before are not counted again: what the notes say holds."""
    first = trainer(device, compile="auto")
    run(first)
    notes = {**first.notes(), "step_flops": 7.0, "step_bytes": 5.0}
    for said, choices, counted in (
        ("auto", notes["choices"], (7.0, 5.0)),
        (False, {**notes["choices"], "compiled": 1}, (first.notes()["step_flops"], first.notes()["step_bytes"])),
    ):
        again = trainer(device, compile=said)
        again.go_on(11, {**notes, "choices": choices})
        run(again)
        assert (again.notes()["step_flops"], again.notes()["step_bytes"]) == counted


def test_a_skipped_step_changes_nothing(device: Device) -> None:
    class Refuses(SpikeGuard):
        def __call__(self, loss: float, grad_norm: float) -> bool:
            super().__call__(loss, grad_norm)
            self.skipped = True
            return False

    of = trainer(device, Refuses())
    before = state(of)
    assert all(step.skipped for step in run(of))
    for name, tensor in of.tensors().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(
    ("raised", "change", "message"),
    [
        (MemoryError(), {}, r"^step 0: out of memory with batch_size=4 in 1 part; set training\.accumulate=2,"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            {"accumulate": 2},
            r"^step 0: out of memory with batch_size=4 in 2 parts; set training\.accumulate=4, which runs the same",
        ),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
            {"accumulate": 4},
            r"^step 0: out of memory with batch_size=4 in 4 parts; take a smaller model or seq_len",
        ),
    ],
)
def test_out_of_memory_says_what_would_fit(
    device: Device, monkeypatch: pytest.MonkeyPatch, raised: Exception, change: dict[str, Any], message: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(TrainingStep, "__call__", fail)
    with pytest.raises(OutOfMemoryError, match=message) as told:
        run(trainer(device, **change))
    assert "\n" not in str(told.value)
    assert isinstance(told.value, TwobillsError)


def test_other_errors_are_not_taken_for_memory(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(TrainingStep, "__call__", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(trainer(device))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_each_step_says_its_norm_and_rate(device: Device) -> None:
    steps = run(trainer(device))
    assert all(step.grad_norm > 0 for step in steps)
    assert all(0 < step.step_s <= step.elapsed_s for step in steps)
    assert max(step.lr_scale for step in steps) == 1.0
    assert steps[-1].lr_scale < steps[6].lr_scale
