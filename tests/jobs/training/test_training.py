from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models import SMALL
from twobills.counts.operations import total_flops
from twobills.counts.trained_step import train_step_operations
from twobills.errors import RequestError, TwobillsError
from twobills.jobs.data.batches import Batches
from twobills.jobs.data.codec import Document, TextCodec, train_tokenizer
from twobills.jobs.device import Device, pick_device
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.evaluate import bits_per_byte, evaluate, gzip_bits_per_byte
from twobills.jobs.training.freeze import freeze
from twobills.jobs.training.loop import Trainer
from twobills.jobs.training.optimizer import lr_scale, orthogonalise
from twobills.meter.meter import Meter
from twobills.meter.power import DeclaredPower
from twobills.specs.dtype import DType
from twobills.specs.training import TrainingSpec
from twobills.usage import Job, Phase

TEXT = "def greet(name):\n    return 'hello ' + name\n\n\nfor word in greet('world').split():\n    print(word)\n"
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "arcee": {"gated_mlp": False, "activation": "relu2"},
    "qwen3": {"qk_norm": True, "tied_embeddings": False},
}


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
    codec = TextCodec(train_tokenizer([TEXT] * 10, 320))
    tokens = np.concatenate([*codec.encode([Document("x", TEXT.encode())] * 40)])
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


@pytest.mark.parametrize("dtype", [DType.FP32, DType.BF16])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("change", FAMILIES.values(), ids=FAMILIES)
def test_metered_flops_are_those_counted_for_the_step(
    device: Device, dtype: DType, optimizer: str, change: dict[str, Any]
) -> None:
    model = replace(SMALL, **change)
    network = Decoder(model)
    network.initialise(torch.Generator().manual_seed(0))
    meter = training_meter()
    run = spec(n_steps=3, dtype=dtype, optimizer=optimizer, accumulate=2)
    list(Trainer(network, run, device).run(batches_of_text(), meter))
    operations = train_step_operations(model, batch_size=4, seq_len=32, dtype=dtype, optimizer=optimizer, accumulate=2)
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


@pytest.mark.parametrize("change", FAMILIES.values(), ids=FAMILIES)
def test_a_frozen_model_opens_in_transformers_with_the_same_logits(tmp_path: Path, change: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    network = Decoder(replace(SMALL, **change)).to(torch.bfloat16)
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
