from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models import SMALL
from twobills.counts.operations import total_flops, train_step_operations
from twobills.errors import DataError, RequestError, TwobillsError
from twobills.jobs.device import Device, pick_device
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training import corpus as corpora
from twobills.jobs.training.corpus import Document, is_heldout, read_corpus
from twobills.jobs.training.evaluate import bits_per_byte, evaluate, gzip_bits_per_byte
from twobills.jobs.training.freeze import freeze
from twobills.jobs.training.loop import Trainer
from twobills.jobs.training.optimizer import lr_scale, orthogonalise
from twobills.jobs.training.tokens import END_ID, Batches, encode_documents, train_tokenizer
from twobills.meter.meter import Meter
from twobills.meter.power import DeclaredPower
from twobills.specs.dtype import DType
from twobills.specs.training import TrainingSpec
from twobills.usage import Job, Phase

TEXT = "def greet(name):\n    return 'hello ' + name\n\n\nfor word in greet('world').split():\n    print(word)\n"


def spec(**change: object) -> TrainingSpec:
    values = {
        "n_steps": 30,
        "batch_size": 4,
        "seq_len": 32,
        "dtype": DType.FP32,
        "heldout_tokens": 0,
        **change,
    }
    return TrainingSpec(**values)  # type: ignore[arg-type]


def training_meter() -> Meter:
    return Meter(Job.TRAINING, n_chips=2, power=DeclaredPower(4.0, 2), resting=Phase.PRETRAIN)


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    threads = torch.get_num_threads()
    yield pick_device()
    torch.set_num_threads(threads)


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


def test_a_tokenizer_gives_back_every_text() -> None:
    tokenizer = train_tokenizer([TEXT] * 10, 300)
    odd = "naïve café ☕ \x00 \t tabs"
    (tokens,) = encode_documents(tokenizer, [odd])
    assert tokens[0] == END_ID
    assert tokenizer.decode(tokens[1:].tolist()) == odd
    assert tokenizer.get_vocab_size() <= 300


def test_an_epoch_shows_every_window_once() -> None:
    batches = Batches(np.arange(1000, dtype=np.int32), batch_size=3, seq_len=10, seed=0)
    windows = batches._windows_per_epoch
    starts = [batches._start(i) for i in range(windows)]
    assert len(set(starts)) == windows
    assert all(b - a == 10 for a, b in zip(sorted(starts), sorted(starts)[1:], strict=False))
    assert starts != sorted(starts)


def test_a_batch_is_a_function_of_its_step() -> None:
    tokens = np.arange(1000, dtype=np.int32)
    a, b = (Batches(tokens, batch_size=3, seq_len=10, seed=7) for _ in range(2))
    inputs, targets = a[50]
    assert torch.equal(inputs, b[50][0])
    assert torch.equal(targets, inputs + 1)
    assert not torch.equal(a[0][0], inputs)
    with pytest.raises(DataError, match="15 tokens are too few"):
        Batches(tokens[:15], batch_size=1, seq_len=10, seed=0)


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    matrices = torch.randn(3, 48, 32, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    run = spec()
    assert lr_scale(0.0, run) < 0.1
    assert lr_scale(0.3, run) == 1.0
    assert lr_scale(0.75, run) == pytest.approx(0.5)
    assert lr_scale(1.0, run) == 0.0


def batches_of_text() -> Batches:
    tokenizer = train_tokenizer([TEXT] * 10, 320)
    tokens = np.concatenate(encode_documents(tokenizer, [TEXT] * 40))
    return Batches(tokens, batch_size=4, seq_len=32, seed=0)


@pytest.mark.parametrize("dtype", [DType.FP32, DType.BF16])
def test_training_learns(device: Device, dtype: DType) -> None:
    network = Decoder(SMALL)
    network.initialise(torch.Generator().manual_seed(0))
    trainer = Trainer(network, spec(dtype=dtype), device)
    steps = list(trainer.run(batches_of_text(), training_meter()))
    assert len(steps) == 30
    assert steps[0].loss == pytest.approx(math.log(320), rel=0.05)
    assert steps[-1].loss < 0.6 * steps[0].loss
    assert steps[-1].progress == 1.0


def test_metered_flops_are_those_counted_for_the_step(device: Device) -> None:
    network = Decoder(SMALL)
    network.initialise(torch.Generator().manual_seed(0))
    meter = training_meter()
    list(Trainer(network, spec(n_steps=3, dtype=DType.BF16), device).run(batches_of_text(), meter))
    operations = train_step_operations(SMALL, batch_size=4, seq_len=32, dtype=DType.BF16)
    used = meter.usage().phases[Phase.PRETRAIN]
    assert used.flops == pytest.approx(3 * total_flops(operations))
    assert used.tokens == 3 * 4 * 32


def test_a_run_out_of_time_still_cools_down(device: Device) -> None:
    network = Decoder(SMALL)
    network.initialise(torch.Generator().manual_seed(0))
    seconds = iter(range(1000))
    trainer = Trainer(network, spec(n_steps=500), device)
    steps = list(trainer.run(batches_of_text(), training_meter(), max_s=20, clock=lambda: float(next(seconds))))
    assert len(steps) < 30
    assert steps[-1].progress > 0.9


def test_a_loss_that_is_no_number_ends_the_run(device: Device) -> None:
    network = Decoder(SMALL)
    network.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.model.norm.weight.fill_(math.nan)
    with pytest.raises(TwobillsError, match="the loss is nan; lower lr="):
        list(Trainer(network, spec(), device).run(batches_of_text(), training_meter()))


def test_bits_per_byte_of_a_model_that_knows_nothing(device: Device) -> None:
    """All weights zero: every token costs ln(vocabulary) nats, and each is predicted once."""
    network = Decoder(SMALL)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    trainer = Trainer(network, spec(), device)
    documents = [np.arange(n, dtype=np.int32) % 320 for n in (2, 33, 34, 100)]
    result = evaluate(network, documents, batch_size=2, seq_len=32, attend=trainer.attend)
    assert result.n_tokens == sum(len(d) - 1 for d in documents)
    assert result.nats == pytest.approx(result.n_tokens * math.log(320), rel=1e-5)
    assert bits_per_byte(8 * math.log(2), 4) == pytest.approx(2.0)


def test_gzip_is_counted_file_by_file() -> None:
    assert gzip_bits_per_byte([Document("a", b"a" * 10_000)]) < 0.1
    assert gzip_bits_per_byte([Document("a", b"a")] * 3) == gzip_bits_per_byte([Document("a", b"a")])


def test_a_frozen_model_opens_in_transformers_with_the_same_logits(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    network = Decoder(SMALL).to(torch.bfloat16)
    network.initialise(torch.Generator().manual_seed(0))
    tokenizer = train_tokenizer([TEXT] * 10, 320)
    freeze(network, tokenizer, tmp_path / "model", lineage={}, bill={})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = tokenizer.encode(TEXT).ids[:32]
    assert their_tokenizer(TEXT)["input_ids"][:32] == ids
    ours = network.float()
    attend = Trainer(ours, spec(), Device(torch.device("cpu"), "test", 1, 1e9)).attend
    with torch.no_grad():
        logits = ours.logits(ours.hidden(torch.tensor([ids]), torch.arange(len(ids)), attend))
        torch.testing.assert_close(logits, theirs(torch.tensor([ids])).logits, atol=1e-4, rtol=1e-4)


def interrupt_the_second(rename: Any) -> Any:
    """Ctrl-C at the worst moment: the old model moved away, the new one not yet in its place."""
    calls = iter(range(100))

    def renaming(path: Path, target: Path) -> Path:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return rename(path, target)  # type: ignore[no-any-return]

    return renaming


def test_a_model_of_ours_is_replaced_and_anything_else_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Decoder(SMALL).to(torch.bfloat16)
    network.initialise(torch.Generator().manual_seed(0))
    tokenizer = train_tokenizer([TEXT], 300)
    folder = tmp_path / "model"
    first = freeze(network, tokenizer, folder, lineage={}, bill={})
    assert freeze(network, tokenizer, folder, lineage={}, bill={}) == first
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    monkeypatch.setattr(Path, "rename", interrupt_the_second(Path.rename))
    with pytest.raises(KeyboardInterrupt):
        freeze(network, tokenizer, folder, lineage={}, bill={})
    monkeypatch.undo()
    assert (folder / "model.safetensors").exists()
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.md").write_text("mine")
    with pytest.raises(RequestError, match="is not a model of twobills"):
        freeze(network, tokenizer, tmp_path / "thesis", lineage={}, bill={})
    assert (tmp_path / "thesis" / "chapter1.md").read_text() == "mine"
