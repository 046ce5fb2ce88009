from __future__ import annotations

import pytest
import torch

from twobills.jobs.data.batch import Batch
from twobills.jobs.device import Device
from twobills.jobs.training.prefetch import prefetched


class Numbered:
    """Batches that hold their step."""

    def __getitem__(self, step: int, /) -> Batch:
        tokens = torch.full((2, 3), step)
        return Batch(tokens, tokens + 1, tokens if step % 2 else None)


def test_on_a_cpu_batches_are_as_they_are() -> None:
    batches = Numbered()
    assert prefetched(batches, Device(torch.device("cpu"), "test", 1, 1e9)) is batches


@pytest.mark.gpu
def test_on_a_gpu_every_step_has_its_batch_in_whatever_order() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    batches = prefetched(Numbered(), Device(torch.device("cuda", 0), "test", 1, 1e9))
    for step in (0, 1, 2, 7, 8, 3):
        batch = batches[step]
        assert batch.inputs.is_cuda
        assert (batch.inputs == step).all()
        assert (batch.targets == step + 1).all()
        assert (batch.documents is not None) == bool(step % 2)
