"""How many operator calls our code makes is counted here, and a forecast relies on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.jobs.inference.tiny_model import load
from twobills.counts.operations import Operation, engine_step_operations
from twobills.counts.trained_step import train_step_operations
from twobills.jobs.data.batch import Batch
from twobills.jobs.device import Device
from twobills.jobs.inference.engine import Engine
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.step import TrainingStep
from twobills.plan.size_here import ladder
from twobills.serving.request import Request, SamplingParams
from twobills.specs.dtype import DType
from twobills.specs.serving import ServingSpec
from twobills.specs.training import TrainingSpec


class Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operator calls."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.n += 1
        return func(*args, **(kwargs or {}))


def forecast(operations: list[Operation]) -> float:
    return next(op.calls for op in operations if op.name == "operator calls")


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("dtype", [DType.BF16, DType.FP32])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_training_steps_calls(optimizer: str, dtype: DType, parts: int) -> None:
    model = next(iter(ladder(vocab_size=512, max_seq_len=64)))
    network = Decoder(model)
    network.initialise(torch.Generator().manual_seed(0))
    spec = TrainingSpec(
        n_steps=1, batch_size=2, seq_len=64, dtype=dtype, heldout_tokens=0, optimizer=optimizer, accumulate=parts
    )
    step = TrainingStep(network, spec, Device(torch.device("cpu"), "test", 1, 1e9))
    tokens = torch.zeros(2, 64, dtype=torch.int64)
    with Calls() as calls:
        step(Batch(tokens, tokens), lr_scale=1.0)
    operations = train_step_operations(
        model, batch_size=2, seq_len=64, dtype=dtype, optimizer=optimizer, accumulate=parts
    )
    assert forecast(operations) == pytest.approx(calls.n, rel=0.1)


def test_a_decode_steps_calls() -> None:
    loaded = load()
    engine = Engine(loaded, ServingSpec(max_context_len=128, dtype=DType.FP32))
    params = SamplingParams(max_tokens=20, ignore_eos=True)
    for i in range(4):
        engine.add(Request(id=str(i), prompt_token_ids=[1, 2, 3], params=params))
    for _ in range(5):
        engine.step()
    with Calls() as calls:
        engine.step()
    operations = engine_step_operations(
        loaded.spec, n_tokens=4, n_attended=64, n_logits=4, n_chunks=1, dtype=DType.FP32
    )
    assert forecast(operations) == pytest.approx(calls.n, rel=0.1)
