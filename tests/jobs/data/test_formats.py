"""Formats: the same documents whatever they lie in and however a file is divided; what is wrong is named."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import DataError, MissingExtraError
from twobills.jobs.data import columns, compressed, parts
from twobills.jobs.data.codec import Document
from twobills.jobs.data.formats import read_part, split_file
from twobills.jobs.data.parts import PIECE_BYTES, Part, Read, pieces
from twobills.jobs.data.sources import find_source
from twobills.specs.data import Format, SourceSpec

TEXTS = [f"document {i}: " + "größer € 窓 " * (i % 50) + "\n" * (i % 3) for i in range(300)]


def found(path: Path, **source: Any) -> list[Part]:
    return [*find_source(SourceSpec(path=path, **source)).parts]


def documents(parts: list[Part], *, cut: bool = False) -> list[Document]:
    read = [(part, Read()) for part in parts]
    result = [document for part, of in read for document in read_part(part, of, cut=cut)]
    assert all(of.n_bytes == part.n_bytes for part, of in read)
    return result


def texts(found: list[Document]) -> list[str]:
    return [document.content.decode() for document in found]


def jsonl(field: str = "text") -> bytes:
    return "".join(
        json.dumps({"id": i, field: text}, ensure_ascii=False) + "\n" for i, text in enumerate(TEXTS)
    ).encode()


def zstd(content: bytes) -> bytes:
    return import_module("zstandard").ZstdCompressor().compress(content)  # type: ignore[no-any-return]


PACK: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


@pytest.mark.parametrize("suffix", PACK)
def test_json_lines_packed_or_not(tmp_path: Path, suffix: str) -> None:
    if suffix == ".zst":
        pytest.importorskip("zstandard")
    path = tmp_path / f"chats.jsonl{suffix}"
    path.write_bytes(PACK[suffix](jsonl()))
    (part,) = found(path)
    assert (part.format, part.compression) == (Format.JSONL, suffix)
    assert texts(documents([part])) == TEXTS
    assert len({document.name for document in documents([part])}) == len(TEXTS)


@pytest.mark.parametrize("suffix", PACK)
def test_a_packed_text_is_one_document(tmp_path: Path, suffix: str) -> None:
    if suffix == ".zst":
        pytest.importorskip("zstandard")
    path = tmp_path / f"essay.txt{suffix}"
    whole = "".join(TEXTS)
    path.write_bytes(PACK[suffix](whole.encode()))
    assert texts(documents(found(path))) == [whole]
    assert "".join(texts(documents(found(path), cut=True))) == whole
    assert len(documents(found(path), cut=True)) == len([*pieces(whole.encode(), "x")])


@pytest.mark.parametrize("suffix", [suffix for suffix in PACK if suffix])
def test_a_packed_file_that_is_cut_short_is_named(tmp_path: Path, suffix: str) -> None:
    if suffix == ".zst":
        pytest.importorskip("zstandard")
    path = tmp_path / f"chats.jsonl{suffix}"
    packed = PACK[suffix](jsonl())
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(
        DataError, match=rf"chats\.jsonl\{suffix}: (is cut short|is damaged|the line at byte)"
    ) as caught:
        documents(found(path))
    assert "\n" not in str(caught.value)


def test_packed_noise_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"x" * 10_000)[:10] + b"\xff" * 100)
    with pytest.raises(DataError, match=r"a\.txt\.gz: is damaged"):
        documents(found(path))


def test_a_file_that_only_claims_to_be_packed_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(b"not packed at all")
    assert documents(found(path)) == [Document("a.gz", b"not packed at all")]


@given(n_bytes=st.integers(100, 60_000))
def test_json_lines_do_not_depend_on_how_they_are_divided(
    n_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("d") / "chats.jsonl"
    path.write_bytes(jsonl())
    (whole,) = found(path)
    divided = split_file(whole._replace(start=0, end=0), n_bytes)
    assert sum(part.n_bytes for part in divided) == path.stat().st_size
    assert documents(divided) == documents([whole])


@given(
    content=st.lists(st.sampled_from(["ä" * 3000, "line\n" * 900, "窓" * 5000, "\n", "x" * 20_000, ""]), max_size=12),
    n_parts=st.integers(1, 8),
)
def test_pieces_do_not_depend_on_how_a_file_is_divided(
    content: list[str], n_parts: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("d") / "essay.txt"
    text = "".join(content)
    path.write_text(text, encoding="utf-8", newline="")
    (whole,) = found(path)
    at_once = documents([whole], cut=True)
    monkey = whole._replace(format=Format.JSONL)  # a format that may be entered in the middle
    divided = [part._replace(format=Format.FILES) for part in split_file(monkey, n_parts * PIECE_BYTES)]
    assert documents(divided, cut=True) == at_once
    assert "".join(texts(at_once)) == text
    assert all(len(document.content) <= 2 * PIECE_BYTES for document in at_once)
    assert [document.name for document in at_once] == [f"essay.txt#{i}" for i in range(len(at_once))]


def test_a_large_file_is_cut_and_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parts, sys.modules["twobills.jobs.data.formats"]):
        monkeypatch.setattr(module, "WHOLE_BYTES", 50_000)
    monkeypatch.setattr("twobills.jobs.data.sources.PART_BYTES", 3 * PIECE_BYTES)
    path = tmp_path / "large.txt"
    text = "some words and a line end\n" * 8000
    path.write_text(text)
    divided = found(path)
    assert len(divided) == 9
    assert "".join(texts(documents(divided))) == text
    assert len(documents(divided)) > 20


def parquet(path: Path, values: list[Any], **options: Any) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"id": list(range(len(values))), "text": values})
    import_module("pyarrow.parquet").write_table(table, path, **options)
    return path


def test_parquet_by_row_groups(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", TEXTS, row_group_size=40)
    (whole,) = found(path)
    assert texts(documents([whole])) == TEXTS
    divided = split_file(whole._replace(start=0, end=0), whole.file_bytes // 4)
    assert len(divided) > 2
    assert documents(divided) == documents([whole])


def test_parquet_may_hold_bytes_and_nothing(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [b"\xff\x00", None, b"", b"x"])
    assert [document.content for document in documents(found(path))] == [b"\xff\x00", b"x"]


def dataset(folder: Path, *, split: str = "") -> Path:
    library = pytest.importorskip("datasets")
    rows = library.Dataset.from_dict({"id": list(range(len(TEXTS))), "text": TEXTS})
    if split:
        library.DatasetDict({split: rows}).save_to_disk(folder, num_shards={split: 3})
    else:
        rows.save_to_disk(folder, num_shards=3)
    return folder


@pytest.mark.parametrize("split", ["", "train"])
def test_a_folder_that_datasets_saved(tmp_path: Path, split: str) -> None:
    path = dataset(tmp_path / "saved", split=split)
    (whole,) = found(path)
    assert whole.format is Format.DATASETS
    assert texts(documents([whole])) == TEXTS
    divided = split_file(whole._replace(start=0, end=0), whole.file_bytes // 4)
    assert len(divided) == 4
    assert documents(divided) == documents([whole])


def test_a_folder_holds_files_of_several_formats(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.jsonl").write_bytes(jsonl())
    (tmp_path / "a.txt").write_text("a text")
    (tmp_path / "c.jsonl").write_text('{"other": 1}\n')  # nothing of ours: a text like any other
    (tmp_path / ".hidden").write_text("not read")
    parts = found(tmp_path)
    assert [(part.name, part.format) for part in parts] == [
        ("a.txt", Format.FILES),
        ("c.jsonl", Format.FILES),
        ("sub/b.jsonl", Format.JSONL),
    ]
    assert len(documents(parts)) == 2 + len(TEXTS)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "source", "message"),
    [
        (lambda f: f / "nowhere", {}, "nowhere: does not exist"),
        (
            lambda f: write(f / "a.jsonl", jsonl("content")),
            {},
            "at byte 0 has no field 'text', only id, content",
        ),
        (lambda f: write(f / "a.jsonl", b'{"text": "x"}\n{"te'), {}, r"a\.jsonl: the line at byte 14 is not JSON"),
        (lambda f: write(f / "a.jsonl", b"[1]\n"), {}, "has no field 'text', only list"),
        (lambda f: write(f / "a.jsonl", b'{"text": 3}\n'), {}, "'text' of the line at byte 0 is int, not text"),
        (lambda f: write(f / "a.parquet", b"PAR1 not really"), {}, r"a\.parquet: is damaged or not Parquet"),
        (lambda f: parquet(f / "a.parquet", ["x"]), {"field": "body"}, "has no column 'body', only id, text"),
        (lambda f: parquet(f / "a.parquet", ["x"]), {"field": "id"}, "'id' of row 0 is int, not text"),
        (lambda f: dataset(f / "d"), {"field": "body"}, "has no column 'body', only id, text"),
        (lambda f: dataset(f / "d", split="test"), {}, "has no split 'train', only test"),
        (lambda f: write(f / "a.txt", b"x"), {"format": Format.DATASETS}, "is a file; format='datasets' is a folder"),
        (lambda f: f, {"format": Format.DATASETS}, "is damaged|cannot be read"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, make: Callable[[Path], Path], source: dict[str, Any], message: str
) -> None:
    if "Parquet" in message or "column" in message or "row" in message:
        pytest.importorskip("pyarrow")
    if source.get("format") is Format.DATASETS:
        pytest.importorskip("datasets")
    path = make(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        documents(found(path, **source))
    assert "\n" not in str(caught.value)


def test_parquet_that_is_cut_short_is_named(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", TEXTS)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"a\.parquet: is damaged or not Parquet"):
        documents(found(path))


def test_a_file_that_shrinks_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl())
    parts = found(path)
    path.write_bytes(jsonl()[:1000].rsplit(b"\n", 1)[0] + b"\n")
    with pytest.raises(DataError, match=r"a\.jsonl: changed while it was read"):
        documents(parts)
    path = write(tmp_path / "a.txt", b"x" * 1000)
    parts = found(path)
    path.write_bytes(b"x" * 10)
    with pytest.raises(DataError, match=r"a\.txt: changed while it was read"):
        documents(parts)


@pytest.mark.parametrize(("name", "extra"), [("a.parquet", "parquet"), ("d", "datasets"), ("a.txt.zst", "zstandard")])
def test_a_library_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, extra: str
) -> None:
    if name == "d":
        (tmp_path / "d").mkdir()
        write(tmp_path / "d" / "dataset_info.json", b"{}")
    else:
        write(tmp_path / name, b"\x28\xb5\x2f\xfd")
    for module in (columns, compressed):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=extra):
        documents(found(tmp_path / name))
