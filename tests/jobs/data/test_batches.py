"""Batches as a function of the step: every window once an epoch, sources by weight, documents known, ranks agree."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from twobills.errors import DataError
from twobills.jobs.data.batch import IGNORED
from twobills.jobs.data.batches import Batches
from twobills.jobs.data.shards import Shard, ShardWriter
from twobills.jobs.data.streams import MemoryStream, Stream
from twobills.specs.data import Packing


def counting(n: int, *, weight: float | None = None, base: int = 0, name: str = "") -> MemoryStream:
    """A source whose tokens say where they stand."""
    return MemoryStream([np.arange(base, base + n, dtype=np.int32)], name=name, weight=weight)


def documents(lengths: list[int]) -> MemoryStream:
    """Documents of these lengths; each begins with token 0, as every document does."""
    return MemoryStream([np.array([0, *range(1, n)], np.int32) for n in lengths])


def test_an_epoch_shows_every_window_once() -> None:
    batches = Batches([counting(1003)], batch_size=1, seq_len=10, seed=0)
    n_windows = (1003 - 1 - 10) // 10
    for epoch in range(3):
        rows = [batches[epoch * n_windows + i] for i in range(n_windows)]
        starts = [int(row.inputs[0, 0]) for row in rows]
        assert len(set(starts)) == n_windows
        assert all(b - a == 10 for a, b in zip(sorted(starts), sorted(starts)[1:], strict=False))
        assert starts != sorted(starts)


def test_epochs_begin_windows_elsewhere() -> None:
    batches = Batches([counting(1003)], batch_size=99, seq_len=10, seed=0)
    offsets = {int(batches[epoch].inputs[:, 0].min()) for epoch in range(20)}
    assert len(offsets) > 5


def test_a_batch_is_a_function_of_its_step() -> None:
    a, b = (Batches([counting(1000)], batch_size=3, seq_len=10, seed=7) for _ in range(2))
    batch = a[50]
    assert torch.equal(batch.inputs, b[50].inputs)
    assert torch.equal(batch.targets, batch.inputs + 1)
    assert batch.documents is None
    assert not torch.equal(a[0].inputs, batch.inputs)
    other_seed = Batches([counting(1000)], batch_size=3, seq_len=10, seed=8)
    assert not torch.equal(other_seed[50].inputs, batch.inputs)


def test_a_source_too_short_for_a_window_is_named() -> None:
    with pytest.raises(DataError, match="data letters: 15 tokens are too few for windows of 10"):
        Batches([counting(15, name="letters")], batch_size=1, seq_len=10, seed=0)


@pytest.mark.parametrize("n_processes", [1, 2, 3, 4])
def test_processes_read_their_rows_of_the_same_batch(n_processes: int) -> None:
    streams = [counting(1000, weight=3), counting(500, weight=1, base=5000)]
    batches = Batches(streams, batch_size=8, seq_len=10, seed=1, with_documents=True)
    for step in (0, 1, 77):
        whole = batches[step]
        shares = [batches.rows(step, rank, n_processes) for rank in range(n_processes)]
        for rank, share in enumerate(shares):
            assert torch.equal(share.inputs, whole.rows(rank, n_processes).inputs)
        assert torch.equal(torch.cat([share.targets for share in shares]), whole.targets)


def test_sources_are_mixed_by_weight_and_repeats_are_epochs() -> None:
    streams = [counting(4000, weight=3, name="a"), counting(500, weight=1, base=10_000, name="b")]
    batches = Batches(streams, batch_size=8, seq_len=10, seed=1)
    n_steps = 500
    rows = torch.cat([batches[step].inputs for step in range(n_steps)])
    from_b = rows[:, 0] >= 10_000
    assert int(from_b.sum()) == 8 * n_steps // 4
    a, b = batches.epochs(n_steps)
    assert (a.name, b.name) == ("a", "b")
    assert a.seen_tokens == 3000 * 10
    assert b.seen_tokens == 1000 * 10
    assert b.epochs == pytest.approx(1000 * 10 / 500)
    per_step = from_b.reshape(n_steps, 8).sum(1)
    assert per_step.min() >= 1  # turns are spread evenly, not drawn
    assert per_step.max() <= 3


def test_sources_without_weights_are_one() -> None:
    streams = [counting(700, name="a"), counting(300, base=10_000, name="b")]
    batches = Batches(streams, batch_size=1, seq_len=10, seed=1)
    (both,) = batches.epochs(0)
    assert (both.name, both.n_tokens) == ("a + b", 1000)
    n_windows = (1000 - 1 - 10) // 10
    seen = {token for i in range(n_windows) for token in batches[i].inputs.flatten().tolist()}
    assert len(seen) == n_windows * 10


def test_windows_know_their_documents() -> None:
    lengths = [7, 3, 25, 1, 9, 40, 2]
    flat = np.concatenate([np.full(n, i) for i, n in enumerate(lengths)])
    batches = Batches([documents(lengths)], batch_size=2, seq_len=8, seed=3, with_documents=True)
    place = Batches([MemoryStream([np.arange(len(flat), dtype=np.int32)])], batch_size=2, seq_len=8, seed=3)
    for step in range(20):
        found = batches[step].documents
        assert found is not None
        truth = torch.from_numpy(flat[place[step].inputs.numpy()])
        assert torch.equal(found[:, 1:] != found[:, :-1], truth[:, 1:] != truth[:, :-1])
        assert bool((found[:, 1:] >= found[:, :-1]).all())


def test_packing_puts_whole_documents_into_windows() -> None:
    lengths = [7, 3, 25, 1, 9, 6, 2, 8, 8]
    ends = np.cumsum([0, *lengths]).tolist()
    stream = MemoryStream([np.arange(a, b, dtype=np.int32) for a, b in pairwise(ends)])
    batches = Batches([stream], batch_size=1, seq_len=10, seed=0, packing=Packing.DOCUMENTS, with_documents=True)
    spans = {}
    n_windows = 8
    for row in (batches[step] for step in range(n_windows)):
        n_targets, first = row.n_targets, int(row.inputs[0, 0])
        assert row.targets[0, :n_targets].tolist() == list(range(first + 1, first + 1 + n_targets))
        assert (row.targets[0, n_targets:] == IGNORED).all()
        spans[first] = n_targets
    # 7+3 | 25 in 10, 10 and 5 with 1 | 9 | 6+2 | 8 | 8, whose last token nothing follows
    assert spans == {0: 10, 10: 10, 20: 10, 30: 6, 36: 9, 45: 8, 53: 8, 61: 7}
    (epoch,) = batches.epochs(n_windows)
    assert epoch.seen_tokens == sum(lengths)
    assert batches.empty_frac == pytest.approx(1 - sum(lengths) / (n_windows * 10))
    first_row = next(batches[step] for step in range(n_windows) if batches[step].inputs[0, 0] == 0)
    assert first_row.documents is not None
    assert first_row.documents[0].tolist() == [1] * 7 + [2] * 3


def test_a_mask_takes_targets_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("masked")
    writer = ShardWriter(folder, "a", vocab_size=300, codec_digest="c", made_of="m", masked=True)
    tokens = np.arange(200, dtype=np.int32)
    writer.add(tokens, 200, (tokens % 3 == 0).astype(np.uint8))
    writer.close()
    batches = Batches([Stream([Shard(folder, "a", codec_digest="c")])], batch_size=4, seq_len=16, seed=0)
    batch = batches[0]
    follows = batch.inputs + 1
    assert torch.equal(batch.targets, torch.where(follows % 3 == 0, follows, IGNORED))
