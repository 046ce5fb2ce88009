"""How many operator calls our code makes is counted here, and a forecast relies on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tests.jobs.inference.tiny_model import load
from twobills.counts.operations import Operation, engine_step_operations, train_step_operations
from twobills.jobs.inference.engine import Engine
from twobills.jobs.nn.attention import CausalAttention
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.optimizer import Optimizer
from twobills.plan.size import ladder
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


def test_a_training_steps_calls() -> None:
    model = next(iter(ladder(vocab_size=512, max_seq_len=64)))
    network = Decoder(model)
    network.initialise(torch.Generator().manual_seed(0))
    spec = TrainingSpec(n_steps=1, batch_size=2, seq_len=64, dtype=DType.BF16, heldout_tokens=0)
    optimizer = Optimizer(network, spec, torch.bfloat16)
    attend = CausalAttention(64, torch.device("cpu"), torch.bfloat16)
    tokens = torch.zeros(2, 64, dtype=torch.int64)
    with Calls() as calls:
        hidden = network.hidden(tokens, torch.arange(64), attend)
        loss = F.cross_entropy(network.logits(hidden).flatten(0, 1), tokens.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(1.0)
    operations = train_step_operations(model, batch_size=2, seq_len=64, dtype=DType.BF16)
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
