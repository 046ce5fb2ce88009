from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twobills.counts.params import count_params
from twobills.errors import CatalogError
from twobills.specs import catalog
from twobills.specs.families import FAMILIES
from twobills.specs.model import Biases, ModelSpec, MoE, Norm, Window
from twobills.specs.model_rows import model_aliases, read_model, trained_seq_len

ROW: dict[str, Any] = {
    "n_layers": 2,
    "d_model": 64,
    "n_heads": 4,
    "d_ff": 128,
    "vocab_size": 100,
    "max_seq_len": 32,
    "source": "a test",
    "as_of": "2026-01-01",
}


def test_a_row_says_only_what_its_family_does_not() -> None:
    model = read_model("x", {**ROW, "family": "gpt2", "n_learned_positions": 32})
    assert (model.n_kv_heads, model.d_head, model.norm, model.gated_mlp) == (4, 16, Norm.LAYER, False)
    assert model.biases == Biases(qkv=True, output=True, mlp=True)
    assert read_model("x", {**ROW, "family": "gpt2", "tied_embeddings": False}).tied_embeddings is False


def test_parts_are_tables() -> None:
    moe: dict[str, Any] = {"n_experts": 4, "n_active_experts": 2, "d_expert": 32}
    model = read_model("x", {**ROW, "moe": moe, "window": {"n_tokens": 8}, "norm": "layer", "left_out": ["images"]})
    assert model.moe == MoE(**moe)
    assert model.window == Window(n_tokens=8)
    assert (model.norm, model.left_out) == (Norm.LAYER, ("images",))
    assert count_params(model).active < count_params(model).total


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": None}, "source is missing"),
        ({"d_ff": None}, "d_ff is missing"),
        ({"width": 3}, "unknown key 'width'"),
        ({"family": "gpt7"}, "family='gpt7': not one of llama, gpt2"),
        ({"family": 7}, "family=7: not one of"),
        ({"n_heads": 3}, "d_head is missing, and d_model=64 is not divisible by n_heads=3"),
        ({"n_heads": 0}, "d_head is missing"),
        ({"n_kv_heads": 3}, "n_heads=4: not divisible by n_kv_heads=3"),
        ({"d_model": "wide"}, "d_model='wide': must be of type int"),
        ({"d_model": True}, "d_model=True: must be of type int"),
        ({"tied_embeddings": 1}, "tied_embeddings=1: must be of type bool"),
        ({"norm": "batch"}, "norm='batch': not one of rms, layer"),
        ({"left_out": "images"}, "left_out='images': must be a list"),
        ({"moe": 8}, "moe=8: must be a table"),
        ({"moe": {"n_experts": 8}}, "moe.n_active_experts is missing"),
        ({"moe": {"experts": 8}}, "unknown key moe.'experts'"),
        ({"moe": {"n_experts": 8, "n_active_experts": 9, "d_expert": 8}}, "moe: n_active_experts=9: must be at most"),
        ({"window": {"n_tokens": "long"}}, "window.n_tokens='long': must be of type int"),
    ],
)
def test_a_row_that_makes_no_sense_is_one_line(change: dict[str, Any], message: str) -> None:
    row = {key: value for key, value in {**ROW, **change}.items() if value is not None}
    with pytest.raises(CatalogError, match=message) as caught:
        read_model("x", row, where="mine.toml")
    assert str(caught.value).startswith("mine.toml: model x: ")
    assert "\n" not in str(caught.value)


def test_a_row_that_is_no_table_is_one_line() -> None:
    with pytest.raises(CatalogError, match=r"mine\.toml: model x: 3: must be a table"):
        read_model("x", 3, where="mine.toml")


def test_aliases_are_a_list_of_names() -> None:
    assert model_aliases("x", ROW) == ()
    assert model_aliases("x", {**ROW, "aliases": ["y", "z"]}) == ("y", "z")
    assert read_model("x", {**ROW, "aliases": ["y"]}) == read_model("x", ROW)
    for wrong in ("y", [1]):
        with pytest.raises(CatalogError, match=r"mine\.toml: model x: aliases=.*: must be a list of texts"):
            model_aliases("x", {**ROW, "aliases": wrong}, where="mine.toml")


def test_every_model_is_of_a_known_family() -> None:
    assert {model.family for model in catalog.models().values()} <= set(FAMILIES)


def test_a_training_length_is_stated_with_its_source_and_within_the_positions() -> None:
    stated = {**ROW, "train_seq_len": 16, "train_seq_source": "a test"}
    assert read_model("x", stated) == read_model("x", ROW)
    assert trained_seq_len("x", stated) == 16
    assert trained_seq_len("x", ROW) is None
    with pytest.raises(CatalogError, match="model x: train_seq_source is missing"):
        trained_seq_len("x", {**ROW, "train_seq_len": 16})
    for wrong in (33, 0, 16.5, True):
        with pytest.raises(CatalogError, match=r"model x: train_seq_len=.* from 1 to max_seq_len=32"):
            trained_seq_len("x", {**stated, "train_seq_len": wrong})


def test_lengths_of_published_pre_training_are_found_by_any_name() -> None:
    """DeepSeek-V3, arXiv:2412.19437: 4K; Llama 3.1, arXiv:2407.21783: 8K; both stretched afterwards."""
    assert catalog.train_seq_len("deepseek-r1") == catalog.train_seq_len("DeepSeek V3") == 4096
    assert catalog.train_seq_len("llama-3.3-70b") == 8192
    assert catalog.train_seq_len("mistral-7b") is None
    assert all(length is None or length <= row.max_seq_len for row, length in each_training_length())


def each_training_length() -> list[tuple[ModelSpec, int | None]]:
    return [(row, catalog.train_seq_len(name)) for name, row in catalog.models().items()]


def test_a_users_row_has_its_own_length(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    shape = "".join(f"{key} = {value!r}\n" for key, value in ROW.items()).replace("'", '"')
    own.write_text(f'[model.mine]\n{shape}train_seq_len = 8\ntrain_seq_source = "me"\n')
    assert catalog.train_seq_len("mine", own) == 8
    assert catalog.train_seq_len("llama-2-7b", own) == 4096
