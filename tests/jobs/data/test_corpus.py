from __future__ import annotations

from pathlib import Path

import pytest

from twobills.errors import DataError
from twobills.jobs.data import corpus as corpora
from twobills.jobs.data.codec import Document
from twobills.jobs.data.corpus import is_heldout, read_corpus

TEXT = "def greet(name):\n    return 'hello ' + name\n\n\nfor word in greet('world').split():\n    print(word)\n"


def folder_of(root: Path, n_files: int, content: bytes) -> Path:
    for i in range(n_files):
        path = root / "src" / f"file{i}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return root / "src"


def test_the_default_corpus_is_the_standard_library_without_its_tests() -> None:
    corpus = read_corpus(None)
    names = [document.name for document in corpus.training + corpus.heldout]
    assert "argparse.py" in names
    assert not any(name.split("/")[0] in {"test", "site-packages"} for name in names)
    assert 0.02 < len(corpus.heldout) / len(names) < 0.10
    assert all(is_heldout(document.name) for document in corpus.heldout)
    assert not {d.name for d in corpus.training} & {d.name for d in corpus.heldout}


def test_any_folder_is_split_by_file(tmp_path: Path) -> None:
    corpus = read_corpus(folder_of(tmp_path, 60, TEXT.encode() * 20))
    assert corpus.encoding == "utf-8"
    assert len(corpus.training) + len(corpus.heldout) == 60
    assert corpus.heldout


def test_a_single_file_is_cut_and_any_byte_survives(tmp_path: Path) -> None:
    path = tmp_path / "noise.bin"
    content = bytes(range(256)) * 1000
    path.write_bytes(content)
    corpus = read_corpus(path)
    assert corpus.encoding == "latin-1"
    assert corpus.heldout
    pieces = sorted(corpus.training + corpus.heldout, key=lambda d: int(d.name.split("#")[1]))
    assert b"".join(piece.content for piece in pieces) == content
    assert "".join(corpus.texts(pieces)).encode("latin-1") == content


def test_a_cut_goes_between_characters(tmp_path: Path) -> None:
    path = tmp_path / "essay.txt"
    text = "Où est passée la fenêtre bleue ? 窓はどこですか。\n" * 3000
    path.write_text(text, encoding="utf-8")
    corpus = read_corpus(path)
    assert corpus.encoding == "utf-8"
    pieces = sorted(corpus.training + corpus.heldout, key=lambda d: int(d.name.split("#")[1]))
    assert "".join(corpus.texts(pieces)) == text


def test_the_split_says_how_it_was_made(tmp_path: Path) -> None:
    many = read_corpus(folder_of(tmp_path, 60, TEXT.encode() * 20))
    assert many.split == "by sha256 of the relative path, 1 in 20 held out"
    few = [Document(name, b"x") for name in ("a", "b", "c") if not is_heldout(name)]
    split = corpora._split("few", "utf-8", few)
    assert split.split == "every 20th held out, too few to go by hash"
    assert split.heldout
    assert split.training


def test_file_names_may_hold_any_byte(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 60, TEXT.encode() * 20)
    (folder / "na\udcefve.txt").write_bytes(TEXT.encode())
    corpus = read_corpus(folder)
    assert any("\udcef" in document.name for document in corpus.training + corpus.heldout)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "nowhere", "does not exist; give a file or a folder"),
        (lambda root: folder_of(root, 1, b""), "0 bytes are too few"),
        (lambda root: folder_of(root, 3, b"short"), "15 bytes are too few"),
    ],
)
def test_data_that_cannot_be_learned_from_is_one_line(tmp_path: Path, make: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_corpus(make(tmp_path))  # type: ignore[operator]


def test_data_that_does_not_fit_in_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="more than 1000 bytes"):
        read_corpus(folder_of(tmp_path, 10, b"x" * 500))
