"""The page about data says what is so: its job is read and trained on as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from twobills.flows.job_data import job_corpus
from twobills.jobs.data.corpus import HELDOUT_BYTES, HELDOUT_EVERY, Corpus
from twobills.jobs.data.parts import PIECE_BYTES
from twobills.jobs.data.sources import PART_BYTES
from twobills.jobs.data.tokenise import SAMPLE_BYTES
from twobills.specs.data import Format, Packing
from twobills.specs.job import read_job

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text()


def test_the_job_on_the_page_can_be_read(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    (tmp_path / "job.toml").write_text(block)
    (tmp_path / "my-code").mkdir()
    for i in range(50):
        (tmp_path / "my-code" / f"{i}.py").write_text(f"print({i})\n" * 200)
    lines = "".join(f'{{"body": "note {i} of many, about this and that"}}\n' for i in range(500))
    (tmp_path / "notes.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    job = read_job(tmp_path / "job.toml")
    corpus = job_corpus(job)
    assert isinstance(corpus, Corpus)
    assert job.data.cache == tmp_path / "tokens"
    assert [source.weight for source in corpus.sources] == [3, 1]
    assert {part.format for part in corpus.sources[1].parts} == {Format.JSONL}


def test_every_key_of_the_example_is_known(tmp_path: Path) -> None:
    """With the comment signs of its tables of data taken off."""
    text = (ROOT / "examples" / "train.toml").read_text()
    at = text.index("# [[data]]")
    tables = "\n".join(line.removeprefix("# ") for line in text[at : text.index("# [limits]")].splitlines())
    path = tmp_path / "job.toml"
    path.write_text(f"{text[:at]}\n{tables}\n")
    data = read_job(path, ["modality=text", "packing=documents"]).data
    assert [source.weight for source in data.sources] == [3, 1]
    assert data.packing is Packing.DOCUMENTS


def test_the_sizes_on_the_page_are_those_of_the_program() -> None:
    assert f"at most {SAMPLE_BYTES // 10**6} MB of training documents" in PAGE
    assert f"{100 // HELDOUT_EVERY} %; of large data {HELDOUT_BYTES // 10**6} MB" in PAGE
    assert f"about {PART_BYTES // 10**6} MB of data" in PAGE
    assert f"about every {PIECE_BYTES // 1000} kB" in PAGE
