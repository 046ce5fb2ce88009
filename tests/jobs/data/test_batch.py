from __future__ import annotations

import pytest
import torch

from twobills.jobs.data.batch import IGNORED, Batch


@pytest.mark.parametrize("n_processes", [1, 2, 3, 4, 9])
def test_processes_share_out_a_batch_without_loss_or_repeat(n_processes: int) -> None:
    inputs = torch.arange(8 * 5).reshape(8, 5)
    batch = Batch(inputs, inputs + 1, inputs // 3)
    shares = [batch.rows(rank, n_processes) for rank in range(n_processes)]
    for field in range(3):
        together = torch.cat([share[field] for share in shares])  # type: ignore[misc]
        assert torch.equal(together, batch[field])  # type: ignore[arg-type]
    sizes = {len(share.inputs) for share in shares}
    assert max(sizes) - min(sizes) <= 1


def test_only_targets_that_are_predicted_count() -> None:
    targets = torch.tensor([[1, IGNORED, 0], [IGNORED, IGNORED, 4]])
    assert Batch(targets, targets).n_targets == 3
    assert Batch(targets, targets).rows(1, 2).documents is None
