"""The corpus: which documents there are, which are held out, and how much is known without reading all of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twobills.errors import DataError
from twobills.jobs.data import corpus as corpora
from twobills.jobs.data.codec import Document, decode_text
from twobills.jobs.data.corpus import HELDOUT_EVERY, Corpus, is_heldout, read_corpus
from twobills.jobs.data.parts import Read
from twobills.specs.data import DataSpec, Modality, SourceSpec

TEXT = "def greet(name):\n    return 'hello ' + name\n\n\nfor word in greet('world').split():\n    print(word)\n"


def folder_of(root: Path, n_files: int, content: bytes) -> Path:
    folder = root / "src"
    folder.mkdir(exist_ok=True)
    for i in range(n_files):
        (folder / f"file{i}.txt").write_bytes(content)
    return folder


def jsonl_of(path: Path, n: int, *, text: str = TEXT) -> Path:
    path.write_text("".join(json.dumps({"text": f"{i} {text}"}) + "\n" for i in range(n)))
    return path


def all_documents(corpus: Corpus) -> list[Document]:
    return [d for source in corpus.sources for part in source.parts for d in corpus.documents(part, Read())]


def training(corpus: Corpus) -> list[Document]:
    return [d for source in corpus.sources for part in source.parts for d in corpus.training(part, Read())]


def test_the_default_corpus_is_the_standard_library_without_its_tests() -> None:
    corpus = read_corpus(None)
    names = {document.name for document in training(corpus)}
    held = {document.name for document in corpus.heldout}
    assert "argparse.py" in names | held
    assert not any(name.split("/")[0] in {"test", "site-packages"} for name in names)
    assert 0.02 < len(held) / len(names) < 0.10
    assert all(is_heldout(name) for name in held)
    assert not names & held
    assert corpus.counted
    assert corpus.training_bytes == sum(len(document.content) for document in training(corpus))


def test_any_folder_is_split_by_file(tmp_path: Path) -> None:
    corpus = read_corpus(folder_of(tmp_path, 60, TEXT.encode() * 20))
    assert corpus.encoding == "utf-8"
    assert len(training(corpus)) + len(corpus.heldout) == 60
    assert corpus.heldout
    assert corpus.split == "by sha256 of the relative path, 1 in 20 held out"


def test_a_single_file_is_cut_and_any_byte_survives(tmp_path: Path) -> None:
    path = tmp_path / "noise.bin"
    content = bytes(range(256)) * 1000
    path.write_bytes(content)
    corpus = read_corpus(path)
    assert corpus.encoding == "latin-1"
    assert corpus.heldout
    assert b"".join(document.content for document in all_documents(corpus)) == content
    assert sorted([*training(corpus), *corpus.heldout]) == sorted(all_documents(corpus))
    assert "".join(decode_text(d.content) for d in all_documents(corpus)).encode("latin-1") == content


def test_a_cut_goes_between_characters(tmp_path: Path) -> None:
    path = tmp_path / "essay.txt"
    text = "Où est passée la fenêtre bleue ? 窓はどこですか。" * 3000
    path.write_text(text, encoding="utf-8")
    corpus = read_corpus(path)
    assert corpus.encoding == "utf-8"
    assert "".join(document.content.decode() for document in all_documents(corpus)) == text


def test_one_odd_file_does_not_change_how_the_others_are_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 60, ("ä" + TEXT).encode() * 20)
    (folder / "odd.bin").write_bytes(b"\xff\xfe" * 1000)
    assert read_corpus(folder).encoding == "mixed"


def test_where_a_hash_leaves_a_side_empty_every_20th_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpora, "is_heldout", lambda _: False)
    corpus = read_corpus(folder_of(tmp_path, 60, TEXT.encode() * 20))
    assert corpus.split == "every 20th held out, too few to go by hash"
    names = [document.name for document in all_documents(corpus)]
    assert [document.name for document in corpus.heldout] == names[::20]
    assert len(training(corpus)) == 57
    folder_of(tmp_path, 61, TEXT.encode() * 20)
    assert read_corpus(tmp_path / "src").fingerprint != corpus.fingerprint


def test_file_names_may_hold_any_byte(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 60, TEXT.encode() * 20)
    (folder / "na\udcefve.txt").write_bytes(TEXT.encode())
    corpus = read_corpus(folder)
    assert any("\udcef" in document.name for document in all_documents(corpus))
    assert len(corpus.fingerprint) == 64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "nowhere", "does not exist; give a file or a folder"),
        (lambda root: folder_of(root, 0, b""), "holds no files"),
        (lambda root: folder_of(root, 1, b""), "0 bytes are too few"),
        (lambda root: folder_of(root, 3, b"short"), "15 bytes are too few"),
    ],
)
def test_data_that_cannot_be_learned_from_is_one_line(tmp_path: Path, make: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_corpus(make(tmp_path))  # type: ignore[operator]


def test_several_sources_are_one_corpus(tmp_path: Path) -> None:
    sources = (
        SourceSpec(path=folder_of(tmp_path, 60, TEXT.encode() * 20), weight=1.0),
        SourceSpec(path=jsonl_of(tmp_path / "more.jsonl", 500), weight=3.0),
    )
    corpus = read_corpus(DataSpec(sources=sources))
    assert [source.weight for source in corpus.sources] == [1.0, 3.0]
    assert len(all_documents(corpus)) == 560
    from_second = sum("more.jsonl@" in document.name for document in corpus.heldout)
    assert 0 < from_second < len(corpus.heldout)


def test_large_data_is_estimated_from_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = jsonl_of(tmp_path / "large.jsonl", 20_000)
    exact = read_corpus(path)
    monkeypatch.setattr(corpora, "COUNTED_BYTES", 1000)
    monkeypatch.setattr(corpora, "_PROBE_BYTES", 150_000)
    monkeypatch.setattr(corpora, "HELDOUT_BYTES", 20_000)
    monkeypatch.setattr("twobills.jobs.data.sources.PART_BYTES", 50_000)
    estimated = read_corpus(path)
    assert not estimated.counted
    assert estimated.training_bytes == pytest.approx(exact.training_bytes, rel=0.05)
    assert 20_000 <= estimated.heldout_bytes < 40_000
    assert {d.name for d in estimated.heldout} <= {d.name for d in exact.heldout}
    assert training(estimated) == training(exact)  # what is not evaluated is kept back all the same
    assert read_corpus(path).heldout == estimated.heldout


def test_a_sample_is_bounded_and_comes_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twobills.jobs.data.sources.PART_BYTES", 50_000)
    corpus = read_corpus(jsonl_of(tmp_path / "large.jsonl", 20_000))
    sample = [*corpus.sample(100_000)]
    assert 100_000 <= sum(len(document.content) for document in sample) < 120_000
    assert not any(is_heldout(document.name) for document in sample)
    offsets = [int(document.name.split("@")[1]) for document in sample]
    size = (tmp_path / "large.jsonl").stat().st_size
    assert min(offsets) < 0.05 * size
    assert max(offsets) > 0.9 * size
    assert [*corpus.sample(1e12)] == training(corpus)


def test_the_fingerprint_follows_the_files_and_not_the_weights(tmp_path: Path) -> None:
    path = jsonl_of(tmp_path / "a.jsonl", 2000)
    first = read_corpus(path).fingerprint
    assert read_corpus(path).fingerprint == first
    weighted = DataSpec(sources=(SourceSpec(path=path, weight=2.0),))
    assert read_corpus(weighted).fingerprint == first
    assert read_corpus(DataSpec.of(path, Modality.BYTES)).fingerprint != first
    jsonl_of(path, 2001)
    assert read_corpus(path).fingerprint != first


def test_about_one_in_twenty_is_held_out() -> None:
    held = sum(is_heldout(f"document {i}") for i in range(20_000))
    assert held / 20_000 == pytest.approx(1 / HELDOUT_EVERY, rel=0.1)
