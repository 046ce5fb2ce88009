"""A small corpus, a small job and a machine whose rates are stated: flows without minutes of waiting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.machines import RATES, machine
from twobills.flows.machine import FoundMachine, MeasuredMachine
from twobills.jobs.device import pick_device
from twobills.ledger.store import Ledger
from twobills.specs import catalog
from twobills.specs.data import DataSpec
from twobills.specs.dtype import DType
from twobills.specs.job import TrainingJob

LINE = "def function_{i}(x):\n    value = x * {i} + {j}\n    return [value for _ in range({i})]\n\n\n"


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty files of about 3 kB."""
    folder = tmp_path_factory.mktemp("corpus")
    for i in range(60):
        text = "".join(LINE.format(i=i * 7 % 13, j=j * i % 17) for j in range(40))
        (folder / f"module_{i}.py").write_text(text)
    return folder


@pytest.fixture
def job(tmp_path: Path, corpus_folder: Path) -> TrainingJob:
    """A quarter of a second of training on the stated machine."""
    return TrainingJob(
        out=tmp_path / "out" / "model",
        data=DataSpec.of(corpus_folder),
        minutes=0.004,
        vocab_size=512,
        batch_size=2,
        seq_len=64,
        model={"n_layers": 2, "d_model": 32, "n_heads": 2, "n_kv_heads": 1, "d_ff": 64},
    )


@pytest.fixture
def measured() -> Iterator[MeasuredMachine]:
    """This device, with rates that are stated and not measured."""
    threads = torch.get_num_threads()
    found = FoundMachine(device=pick_device(), chip=catalog.chip("cpu-core"), rates=RATES)
    yield MeasuredMachine(found=found, spec=machine(flops=2e10, bandwidth=5e8, overhead_s=3e-5), dtype=DType.BF16)
    torch.set_num_threads(threads)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger of this test's own."""
    return Ledger(tmp_path / "ledger.sqlite")
