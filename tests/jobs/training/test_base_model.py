"""Bases: any folder that can be served, grown by the tokens that a chat needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.jobs.inference.tiny_model import TINY, write_folder
from twobills.errors import DigestError, ModelFolderError
from twobills.jobs.chat_template import CHATML, TURN_END, TURN_START
from twobills.jobs.data.codec import END_OF_TEXT, train_tokenizer
from twobills.jobs.inference.weights import load_folder
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.digest import weights_digest
from twobills.jobs.training.base_model import grown, load_base
from twobills.specs.model import ModelSpec

BASE = replace(TINY, vocab_size=320)


def write_base(folder: Path, model: ModelSpec = BASE, *, manifest: bool = True) -> None:
    write_folder(folder, model, manifest=manifest)
    train_tokenizer(["Hello there, and good bye"] * 9, 320).save(str(folder / "tokenizer.json"))


def logits(network: Decoder, tokens: torch.Tensor) -> torch.Tensor:
    from tests.jobs.inference.test_engine import causal

    with torch.no_grad():
        return network.logits(network.hidden(tokens, torch.arange(len(tokens)), causal))


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_change_nothing_for_the_others(tmp_path: Path, tied: bool) -> None:
    write_base(tmp_path, replace(BASE, tied_embeddings=tied))
    loaded = load_folder(tmp_path)
    base = load_base(tmp_path, seed=0)
    n_before = loaded.tokenizer().get_vocab_size()
    assert base.n_added_tokens == max(0, n_before + 2 - 320)
    network = grown(loaded.decoder, 330, torch.Generator().manual_seed(0))
    tokens = torch.tensor([5, 7, 11, 319])
    torch.testing.assert_close(logits(network, tokens)[:, :320], logits(loaded.decoder, tokens))
    rows = network.model.embed_tokens.weight
    assert rows.shape == (330, BASE.d_model)
    assert network.spec.vocab_size == 330
    old, new = rows[:320].float(), rows[320:].float()
    assert (new - old.mean(0)).abs().max() < old.std(0).max()
    assert len({tuple(row.tolist()) for row in new}) == 10
    assert (network.lm_head.weight is network.model.embed_tokens.weight) == tied


def test_a_base_of_ours_gets_a_template_and_the_tokens_of_a_turn(tmp_path: Path) -> None:
    write_base(tmp_path)
    base = load_base(tmp_path, seed=0)
    assert base.template_source == CHATML
    assert base.template.render([{"role": "user", "content": "x"}], add_generation_prompt=True).startswith(END_OF_TEXT)
    ids = [token for name in (TURN_START, TURN_END) if (token := base.tokenizer.token_to_id(name)) is not None]
    assert len(ids) == 2
    assert base.network.spec.vocab_size > max(ids)
    assert base.tokenizer.encode(TURN_END, add_special_tokens=False).ids == ids[1:]
    assert all(parameter.requires_grad for parameter in base.network.parameters())
    assert base.digest == load_folder(tmp_path).digest
    assert base.manifest is not None


def test_a_base_with_a_template_keeps_it_and_its_tokens(tmp_path: Path) -> None:
    write_base(tmp_path, manifest=False)
    own = "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": own, "eos_token": END_OF_TEXT}))
    base = load_base(tmp_path, seed=0)
    assert (base.template_source, base.n_added_tokens, base.manifest) == (own, 0, None)
    assert base.tokenizer.token_to_id(TURN_START) is None


def test_a_tokenizer_of_another_model_is_one_line(tmp_path: Path) -> None:
    write_base(tmp_path, replace(BASE, vocab_size=200))
    with pytest.raises(ModelFolderError, match=r"tokens up to \d+, its embedding 200 rows") as refused:
        load_base(tmp_path, seed=0)
    assert "\n" not in str(refused.value)


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    write_base(tmp_path)
    (tmp_path / "twobills.json").write_text(json.dumps({"digest": weights_digest({})}))
    with pytest.raises(DigestError, match=r"twobills\.json names weights"):
        load_base(tmp_path, seed=0)
