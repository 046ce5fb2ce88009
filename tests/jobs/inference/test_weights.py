"""Model folders: good ones give transformers' logits, bad ones one line each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.jobs.inference.test_engine import causal
from tests.jobs.inference.tiny_model import TINY, write_folder
from twobills.errors import DigestError, ModelFolderError
from twobills.jobs.inference.weights import load_folder
from twobills.jobs.nn.digest import weights_digest
from twobills.specs.dtype import DType


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("qk_norm", [True, False], ids=["qwen3", "llama"])
def test_logits_are_those_of_transformers(tmp_path: Path, tied: bool, qk_norm: bool) -> None:
    from transformers import AutoModelForCausalLM

    write_folder(tmp_path, replace(TINY, tied_embeddings=tied, qk_norm=qk_norm))
    tokens = torch.randint(0, TINY.vocab_size, (30,), generator=torch.Generator().manual_seed(1))
    decoder = load_folder(tmp_path).decoder
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        ours = decoder.logits(decoder.hidden(tokens, torch.arange(30), causal))
        torch.testing.assert_close(ours, theirs(tokens[None]).logits[0], atol=1e-4, rtol=1e-4)


def test_what_is_loaded_says_what_it_is(tmp_path: Path) -> None:
    state = write_folder(tmp_path, manifest=True)
    loaded = load_folder(tmp_path)
    assert loaded.digest == weights_digest(state) == loaded.digest_now()
    assert loaded.dtype is DType.FP32
    assert loaded.eos_token_ids == {0}
    assert loaded.manifest == {"digest": loaded.digest}
    assert "lm_head.weight" not in loaded.stored
    (tmp_path / "twobills.json").unlink()
    assert load_folder(tmp_path).manifest is None, "a folder from elsewhere is welcome"


def test_shards_have_the_digest_of_the_whole(tmp_path: Path) -> None:
    state = write_folder(tmp_path, manifest=True)
    (tmp_path / "model.safetensors").unlink()
    names = sorted(state)
    where = {name: f"model-{1 + i % 2:05d}-of-00002.safetensors" for i, name in enumerate(names)}
    for shard in set(where.values()):
        save_file({name: state[name] for name in names if where[name] == shard}, tmp_path / shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    assert load_folder(tmp_path).digest == weights_digest(state)
    (tmp_path / where[names[0]]).unlink()
    with pytest.raises(ModelFolderError, match="which is not in the folder"):
        load_folder(tmp_path)


def test_the_digest_depends_on_everything_and_not_on_order() -> None:
    state = {"a": torch.arange(6.0), "b": torch.ones(2)}
    digest = weights_digest(state)
    assert digest.startswith("sha256:")
    assert weights_digest(dict(reversed(state.items()))) == digest
    changes = (
        {"c": state["a"]},
        {"a": state["a"].view(2, 3)},
        {"a": state["a"].double()},
        {"a": -state["a"]},
    )
    assert len({digest, *(weights_digest({**state, **change}) for change in changes)}) == 5


def test_bf16_weights_keep_their_digest_in_fp32(tmp_path: Path) -> None:
    state = {name: tensor.bfloat16() for name, tensor in write_folder(tmp_path).items()}
    save_file(state, tmp_path / "model.safetensors")
    loaded = load_folder(tmp_path)
    loaded.convert(torch.float32, torch.device("cpu"))
    assert loaded.decoder.lm_head.weight.dtype == torch.float32
    assert loaded.decoder.lm_head.weight is loaded.decoder.model.embed_tokens.weight
    assert loaded.digest_now() == loaded.digest == weights_digest(state)
    loaded.decoder.model.norm.weight[3] = 5.0
    assert loaded.digest_now() != loaded.digest


def _edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    state = {**load_file(path), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    save_file({name: tensor.clone() for name, tensor in state.items() if tensor is not None}, path)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: (d / "config.json").unlink(), "no config.json"),
        (lambda d: (d / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda d: (d / "model.safetensors").unlink(), "pickle is never read"),
        (lambda d: (d / "config.json").write_text("{"), "not a readable config.json"),
        (lambda d: _edit_config(d, architectures=["MambaForCausalLM"]), "MambaForCausalLM"),
        (lambda d: _edit_config(d, rope_scaling={"rope_type": "yarn"}), "rope_scaling=yarn: our own network"),
        (lambda d: _edit_config(d, hidden_act="gelu"), "activation=gelu.*: our own network"),
        (lambda d: _edit_config(d, attention_bias=True), "biases=.*our own network"),
        (lambda d: _edit_config(d, hidden_size=64), "weights do not fit config.json"),
        (lambda d: _edit_config(d, num_hidden_layers=3), "is missing"),
        (lambda d: _edit_config(d, num_hidden_layers=1), "has no place"),
        (lambda d: _edit_weights(d, model__norm__weight=torch.ones(3)), r"shape \[3\], must be \[32\]"),
        (lambda d: _edit_weights(d, model__norm__weight=torch.ones(32).long()), "stored as int64"),
        (lambda d: _edit_weights(d, lm_head__weight=torch.ones(97, 32)), "differs from"),
        (lambda d: (d / "model.safetensors").write_bytes(b"rubbish"), "not a readable safetensors"),
        (
            lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-40]),
            "not a readable safetensors",
        ),
        (lambda d: (d / "twobills.json").write_text("[]"), "one JSON object"),
        (lambda d: (d / "twobills.json").write_text("{}"), "no digest"),
    ],
)
def test_a_bad_folder_is_one_line(tmp_path: Path, break_it: Callable[[Path], object], message: str) -> None:
    write_folder(tmp_path)
    break_it(tmp_path)
    with pytest.raises(ModelFolderError, match=message) as caught:
        load_folder(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_no_folder_and_other_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="no such folder"):
        load_folder(tmp_path / "missing")
    write_folder(tmp_path, manifest=True)
    _edit_weights(tmp_path, model__norm__weight=torch.full((32,), 2.0))
    with pytest.raises(DigestError, match="but these are sha256:"):
        load_folder(tmp_path)
