"""Fine-tuning jobs as files: what is known, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from twobills.errors import RequestError
from twobills.specs.dtype import DType
from twobills.specs.finetune import FinetuneJob, finetune_from_document
from twobills.specs.job import read_document

WHOLE = """
out = "assistant"
data = "chats.jsonl"
batch_size = 4
seq_len = 128
seed = 3
usd_per_chip_hour = 1
[finetune]
base = "base"
epochs = 2
heldout = "tests.jsonl"
[training]
lr = 1e-3
optimizer = "muon"
[limits]
max_usd = 0.5
"""


def read(tmp_path: Path, text: str, *overrides: str) -> FinetuneJob:
    path = tmp_path / "job.toml"
    path.write_text(text)
    return finetune_from_document(read_document(path, overrides), path)


def test_a_whole_job(tmp_path: Path) -> None:
    job = read(tmp_path, WHOLE, "finetune.epochs=0.5")
    assert (job.out, job.base) == (tmp_path / "assistant", tmp_path / "base")
    assert (job.data, job.heldout) == (tmp_path / "chats.jsonl", tmp_path / "tests.jsonl")
    assert (job.epochs, job.batch_size, job.seq_len, job.seed) == (0.5, 4, 128, 3)
    assert job.limits.max_usd == 0.5
    spec = job.spec(n_steps=7, seq_len=50, dtype=DType.BF16, heldout_tokens=0)
    assert (spec.lr, spec.optimizer, spec.seq_len, spec.weight_decay) == (1e-3, "muon", 50, 0.0)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('base = "base"', "", r"\[finetune\] base is missing"),
        ('data = "chats.jsonl"', "", "data is missing"),
        ('out = "assistant"', "", "out is missing"),
        ('out = "assistant"', 'out = "base"', "is the base itself"),
        ("epochs = 2", "epochs = 0", "epochs=0"),
        ("epochs = 2", 'epochs = "2"', "epochs='2': must be a number"),
        ("epochs = 2", "rounds = 2", "unknown key 'rounds'"),
        ("seed = 3", "seed = 3\nvocab_size = 9", "unknown key 'vocab_size'"),
        ("seed = 3", "seed = 0.5", "seed=0.5: must be a whole number"),
        ("seq_len = 128", "seq_len = 0", "seq_len=0: must be at least 1"),
        ("max_usd = 0.5", "max_usd = 0", "max_usd=0"),
        ("max_usd = 0.5", "max_eur = 1", "unknown key 'max_eur'"),
        ("lr = 1e-3", "lr = 3", "lr=3: must be between 0 and 1"),
        ('optimizer = "muon"', 'optimizer = "sgd"', "optimizer=sgd"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, before: str, after: str, words: str) -> None:
    assert before in WHOLE
    with pytest.raises(RequestError, match=words) as refused:
        read(tmp_path, WHOLE.replace(before, after, 1))
    assert "\n" not in str(refused.value)


def test_the_example_is_a_job(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "finetune.toml"
    job = read(tmp_path, example.read_text())
    assert job.base == tmp_path / "twobills-out" / "trained"
    uncommented = example.read_text().replace("# seq_len", "seq_len").replace("# heldout", "heldout")
    for key in ("usd_per_chip_hour", "[limits]", "max_usd", "max_seconds", "max_flops"):
        uncommented = uncommented.replace(f"# {key}", key)
    whole = read(tmp_path, uncommented)
    assert (whole.seq_len, whole.limits.max_seconds, whole.usd_per_chip_hour) == (512, 600, 0.05)
