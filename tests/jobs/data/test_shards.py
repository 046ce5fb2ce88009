"""Shards: what is read is what was written; anything else is one line that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import DataError
from twobills.jobs.data.shards import Shard, ShardFacts, ShardWriter, documents_of, is_whole
from twobills.jobs.data.streams import MemoryStream, Stream

DOCUMENTS = [np.arange(n, dtype=np.int32) + 7 * n for n in (5, 1, 0, 30, 2)]


def write(folder: Path, name: str = "a", *, vocab_size: int = 4096, masked: bool = False) -> ShardFacts:
    writer = ShardWriter(folder, name, vocab_size=vocab_size, codec_digest="codec", made_of="part", masked=masked)
    for document in DOCUMENTS:
        writer.add(document, 3 * len(document), (document % 2).astype(np.uint8) if masked else None)
    assert not (folder / f"{name}.json").exists()
    assert not (folder / f"{name}.bin").exists()
    return writer.close()


@pytest.mark.parametrize(("vocab_size", "itemsize"), [(65_536, 2), (65_537, 4)])
def test_documents_come_back(tmp_path: Path, vocab_size: int, itemsize: int) -> None:
    facts = write(tmp_path, vocab_size=vocab_size)
    shard = Shard(tmp_path, "a", codec_digest="codec")
    shard.verify()
    assert shard.facts == facts
    assert (facts.n_tokens, facts.n_documents, facts.n_bytes) == (38, 5, 114)
    assert (tmp_path / "a.bin").stat().st_size == 38 * itemsize
    assert [d.tolist() for d in documents_of(shard)] == [d.tolist() for d in DOCUMENTS]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.idx", "a.json"]


def test_a_mask_lies_beside_the_tokens(tmp_path: Path) -> None:
    write(tmp_path, masked=True)
    shard = Shard(tmp_path, "a", codec_digest="codec")
    assert shard.mask is not None
    assert shard.mask.tolist() == (np.asarray(shard.tokens) % 2).tolist()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: flip(f / "a.bin"), r"a\.bin: is damaged \(not the SHA-256"),
        (lambda f: flip(f / "a.idx"), r"a\.idx: is damaged \(not the SHA-256"),
        (lambda f: (f / "a.bin").write_bytes(b"x" * 10), r"a\.bin: has 10 bytes where 76 were written"),
        (lambda f: (f / "a.bin").unlink(), r"a\.bin: cannot be read \(No such file"),
        (lambda f: (f / "a.json").write_text("{"), r"a\.json: is damaged \(not JSON"),
        (lambda f: (f / "a.json").write_text("[]"), r"a\.json: is damaged \(not a JSON object"),
        (lambda f: (f / "a.json").write_text('{"n": 1}'), r"a\.json: is not the description of a shard"),
        (lambda f: (f / "a.json").unlink(), r"a\.json: cannot be read \(No such file"),
    ],
)
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    write(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        Shard(tmp_path, "a", codec_digest="codec").verify()
    assert "\n" not in str(caught.value)


def test_tokens_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=r"a\.json: its tokens are of another tokenizer"):
        Shard(tmp_path, "a", codec_digest="other")
    assert is_whole(tmp_path, "a", codec_digest="codec", made_of="part")
    assert not is_whole(tmp_path, "a", codec_digest="other", made_of="part")
    assert not is_whole(tmp_path, "a", codec_digest="codec", made_of="another part")
    assert not is_whole(tmp_path, "b", codec_digest="codec", made_of="part")


def test_a_writer_that_gives_up_leaves_nothing(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "a", vocab_size=300, codec_digest="codec", made_of="part")
    writer.add(DOCUMENTS[0], 3)
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_shard_says_what_it_is_in_plain_json(tmp_path: Path) -> None:
    write(tmp_path)
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["n_tokens"] == 38
    assert set(document["sha256"]) == {".bin", ".idx"}


@given(
    lengths=st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=5),
    span=st.tuples(st.integers(0, 150), st.integers(0, 150)),
)
def test_a_stream_reads_across_shards(lengths: list[list[int]], span: tuple[int, int]) -> None:
    """Against the documents laid end to end."""
    documents = [[np.full(n, 10 * i + j, np.int32) for j, n in enumerate(part)] for i, part in enumerate(lengths)]
    stream = Stream.join([MemoryStream(part) for part in documents])
    flat = [token for part in documents for document in part for token in document.tolist()]
    first, last = sorted(min(place, len(flat)) for place in span)
    assert len(stream) == len(flat)
    if first < last:
        assert stream.tokens(first, last).tolist() == flat[first:last]
        ends = np.cumsum([0, *(len(document) for part in documents for document in part)])
        starts = {int(place) for place in ends[:-1] if first <= place < last}
        assert set(stream.starts(first, last).tolist()) == starts


def test_a_shard_read_from_disk_streams_like_one_in_memory(tmp_path: Path) -> None:
    write(tmp_path)
    disk, memory = Stream([Shard(tmp_path, "a", codec_digest="codec")]), MemoryStream(DOCUMENTS)
    assert disk.tokens(3, 20).tolist() == memory.tokens(3, 20).tolist()
    assert disk.starts(0, 38).tolist() == memory.starts(0, 38).tolist()
    assert disk.n_bytes == 114
    shutil.rmtree(tmp_path)
