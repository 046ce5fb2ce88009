"""Tokens on disk: those of the documents, made once, gone on with after a kill, refused when damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from twobills.errors import DataError
from twobills.jobs.data import tokenise as making
from twobills.jobs.data.codec import BytesCodec, TextCodec, decode_text, train_tokenizer
from twobills.jobs.data.corpus import Corpus, read_corpus
from twobills.jobs.data.parts import Read
from twobills.jobs.data.tokenise import MANIFEST, TokenSet, is_tokenised, open_tokens, token_folder, tokenise
from twobills.specs.data import DataSpec, Modality, SourceSpec

LINE = "def function_{i}(x):\n    value = x * {i} + {j}\n    return [value for _ in range({i})]\n\n\n"
VOCAB_SIZE = 400


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1500 records, 300 kB."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    records = ("".join(LINE.format(i=i * 7 % 13, j=j * i % 17) for j in range(1 + i % 5)) for i in range(1500))
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in records))
    return path


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twobills.jobs.data.sources.PART_BYTES", 40_000)
    monkeypatch.setattr("twobills.jobs.data.shard_maker.PART_BYTES", 40_000)


def texts(tokens: TokenSet) -> list[str]:
    """What the streams hold, document by document."""
    found = []
    for stream in tokens.streams:
        starts = [*stream.starts(0, len(stream)).tolist(), len(stream)]
        flat = stream.tokens(0, len(stream))
        found += [tokens.codec.tokenizer.decode(flat[a:b].tolist()) for a, b in pairwise(starts)]
    return found


def training_texts(corpus: Corpus) -> list[str]:
    parts = [part for source in corpus.sources for part in source.parts]
    return [decode_text(document.content) for part in parts for document in corpus.training(part, Read())]


def test_every_training_document_becomes_tokens_in_order(path: Path, tmp_path: Path) -> None:
    corpus = read_corpus(path)
    told = list[tuple[int, int]]()
    tokens = tokenise(corpus, tmp_path, vocab_size=VOCAB_SIZE, on_progress=lambda *at: told.append(at))
    assert texts(tokens) == training_texts(corpus)
    assert [tokens.codec.tokenizer.decode(document.tolist()) for document in tokens.heldout] == [
        decode_text(document.content) for document in corpus.heldout
    ]
    assert tokens.n_bytes == corpus.training_bytes
    assert tokens.n_documents + len(corpus.heldout) == 1500
    assert len([*tokens.folder.glob("train-*.bin")]) > 4
    assert told[-1] == (path.stat().st_size, path.stat().st_size)
    assert told == sorted(told)


def test_tokens_are_made_once(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = read_corpus(path)
    assert not is_tokenised(corpus, tmp_path, vocab_size=VOCAB_SIZE)
    first = tokenise(corpus, tmp_path, vocab_size=VOCAB_SIZE)
    assert is_tokenised(corpus, tmp_path, vocab_size=VOCAB_SIZE)

    def never(*_: object) -> Iterator[object]:
        raise AssertionError("made again")

    monkeypatch.setattr(TextCodec, "encode", never)
    monkeypatch.setattr(making, "train_tokenizer", never)
    again = tokenise(read_corpus(path), tmp_path, vocab_size=VOCAB_SIZE)
    assert again.digest == first.digest
    assert texts(again) == texts(first)


def test_equal_data_becomes_equal_tokens_however_it_is_divided(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (tokenise(read_corpus(path), tmp_path / name, vocab_size=VOCAB_SIZE) for name in "ab")
    assert one.digest == two.digest
    monkeypatch.setattr("twobills.jobs.data.sources.PART_BYTES", 10**9)
    whole = tokenise(read_corpus(path), tmp_path / "c", vocab_size=VOCAB_SIZE)
    assert len([*whole.folder.glob("train-*.bin")]) == 1
    (a,), (b,) = one.streams, whole.streams
    assert np.array_equal(a.tokens(0, len(a)), b.tokens(0, len(b)))
    assert whole.codec_digest == one.codec_digest


def test_weights_are_not_a_part_of_the_tokens(path: Path, tmp_path: Path) -> None:
    def weighted(*weights: float) -> TokenSet:
        sources = tuple(SourceSpec(path=path, weight=weight) for weight in weights)
        return tokenise(read_corpus(DataSpec(sources=sources)), tmp_path, vocab_size=VOCAB_SIZE)

    one, two = weighted(1, 2), weighted(5, 2)
    assert one.folder == two.folder
    assert [stream.weight for stream in one.streams] == [1, 2]
    assert [stream.weight for stream in two.streams] == [5, 2]


def test_bytes_become_one_token_each(path: Path, tmp_path: Path) -> None:
    corpus = read_corpus(DataSpec.of(path, Modality.BYTES))
    tokens = tokenise(corpus, tmp_path, vocab_size=VOCAB_SIZE)
    assert isinstance(tokens.codec, BytesCodec)
    assert tokens.n_training_tokens == tokens.n_bytes + tokens.n_documents
    again = tokenise(corpus, tmp_path, vocab_size=VOCAB_SIZE)
    assert again.digest == tokens.digest


def test_a_tokenizer_of_the_callers_is_used(path: Path, tmp_path: Path) -> None:
    codec = TextCodec(train_tokenizer(["some other text " * 50], 300))
    corpus = read_corpus(path)
    tokens = tokenise(corpus, tmp_path, vocab_size=VOCAB_SIZE, codec=codec)
    assert tokens.codec is codec
    assert texts(tokens) == training_texts(corpus)
    assert tokens.folder != token_folder(corpus, tmp_path, vocab_size=VOCAB_SIZE)
    with pytest.raises(DataError, match="did not make the tokens beside it"):
        open_tokens(tokens.folder, codec=TextCodec(train_tokenizer(["yet another"], 300)))


KILLED = """
import sys, time
from pathlib import Path
from twobills.jobs.data import shard_maker, sources, tokenise
from twobills.jobs.data.codec import TextCodec
from twobills.jobs.data.corpus import read_corpus

sources.PART_BYTES = shard_maker.PART_BYTES = 40_000
shard_maker.n_threads = lambda: 1
encode = TextCodec.encode
def slowly(codec, documents):
    for tokens in encode(codec, documents):
        time.sleep(0.002)
        yield tokens
TextCodec.encode = slowly
print("begun", flush=True)
tokenise.tokenise(read_corpus(Path(sys.argv[1])), Path(sys.argv[2]), vocab_size=400)
"""


def test_a_run_that_was_killed_goes_on_where_it_was(path: Path, tmp_path: Path) -> None:
    root = tmp_path / "killed"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path), str(root)], stdout=subprocess.PIPE) as process:
        until_s = time.monotonic() + 60
        while len([*root.glob("*/train-*.json")]) < 2 and time.monotonic() < until_s:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    corpus = read_corpus(path)
    folder = token_folder(corpus, root, vocab_size=VOCAB_SIZE)
    kept = {file: file.stat().st_mtime_ns for file in folder.glob("train-*.bin")}
    assert len([*folder.glob("train-*.json")]) >= 2
    assert not (folder / MANIFEST).exists()
    resumed = tokenise(corpus, root, vocab_size=VOCAB_SIZE)
    whole = tokenise(corpus, tmp_path / "whole", vocab_size=VOCAB_SIZE)
    assert resumed.digest == whole.digest
    unchanged = [file for file, at in kept.items() if file.stat().st_mtime_ns == at]
    assert len(unchanged) >= 2


def test_what_a_killed_run_had_half_written_is_removed_in_the_end(path: Path, tmp_path: Path) -> None:
    corpus = read_corpus(path)
    folder = token_folder(corpus, tmp_path, vocab_size=VOCAB_SIZE)
    folder.mkdir(parents=True)
    old, new = folder / ".train-00-00000.bin.123.part", folder / ".train-00-00000.bin.456.part"
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    tokenise(corpus, tmp_path, vocab_size=VOCAB_SIZE)
    assert not old.exists()
    assert new.exists()


def first(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_tokenizer(folder: Path) -> None:
    train_tokenizer(["another text"], 300).save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: flip(first(f, "train-*.bin")), r"train-00-00000\.bin: is damaged"),
        (lambda f: flip(f / "heldout.bin"), r"heldout\.bin: is damaged"),
        (lambda f: first(f, "train-*.idx").write_bytes(b""), r"train-00-00000\.idx: has 0 bytes where"),
        (lambda f: first(f, "train-*.json").unlink(), r"train-00-00000\.json: cannot be read"),
        (other_tokenizer, r"tokenizer\.json: did not make the tokens beside it"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), r"tokenizer\.json: is not a tokenizer"),
        (lambda f: (f / MANIFEST).write_text("{}"), r"data\.json: is damaged \(keys are missing\)"),
        (
            lambda f: (f / MANIFEST).write_text((f / MANIFEST).read_text().replace('"digest": "', '"digest": "0')),
            "tokenizer.json: did not make|does not belong",
        ),
    ],
)
def test_damage_is_one_line_that_names_the_file(
    path: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    corpus = read_corpus(path)
    damage(tokenise(corpus, tmp_path, vocab_size=VOCAB_SIZE).folder)
    with pytest.raises(DataError, match=message) as caught:
        tokenise(corpus, tmp_path, vocab_size=VOCAB_SIZE)
    assert "\n" not in str(caught.value)


def test_a_shard_of_an_interrupted_run_that_is_damaged_is_refused(path: Path, tmp_path: Path) -> None:
    corpus = read_corpus(path)
    folder = tokenise(corpus, tmp_path, vocab_size=VOCAB_SIZE).folder
    (folder / MANIFEST).unlink()
    flip(first(folder, "train-*.bin"))
    with pytest.raises(DataError, match=r"train-00-00000\.bin: is damaged"):
        tokenise(corpus, tmp_path, vocab_size=VOCAB_SIZE)


def test_a_source_that_breaks_halfway_leaves_no_whole_folder(path: Path, tmp_path: Path) -> None:
    corpus = read_corpus(path)
    source = corpus.sources[0]
    broken = source.parts[3]._replace(field="nothing")
    parts = (*source.parts[:3], broken, *source.parts[4:])
    corpus = replace(corpus, sources=(source._replace(parts=parts),))
    with pytest.raises(DataError, match="has no field 'nothing', only text"):
        tokenise(corpus, tmp_path, vocab_size=VOCAB_SIZE, codec=BytesCodec())
    folder = token_folder(corpus, tmp_path, vocab_size=VOCAB_SIZE, codec=BytesCodec())
    assert not (folder / MANIFEST).exists()
    assert not [*folder.glob(".*.part")]


def test_a_folder_that_cannot_be_written_is_one_line(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"file.*: cannot be written \(Not a directory\)"):
        tokenise(read_corpus(path), tmp_path / "file", vocab_size=VOCAB_SIZE)
