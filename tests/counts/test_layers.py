from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.counts.layers import LayerKind, SplitBy, attended_last, attended_per_token, layer_kinds
from twobills.specs import catalog
from twobills.specs.model import ModelSpec, Window

MODELS = catalog.models()
LLAMA = MODELS["llama-2-7b"]


def with_window(window: Window | None) -> LayerKind:
    (kind,) = layer_kinds(replace(LLAMA, window=window))
    return kind


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda m: m.name)
def test_kinds_are_all_layers_and_their_products_fit_together(model: ModelSpec) -> None:
    kinds = layer_kinds(model)
    assert sum(kind.n_layers for kind in kinds) == model.n_layers
    for kind in kinds:
        for p in kind.projections:
            assert 1 <= p.n_active <= p.n_stored
            assert (p.split_by is SplitBy.EXPERT) == (p.n_stored > 1)
            assert p.split_by is not SplitBy.NONE or p.max_split == 1
        summed = [p for p in kind.projections if p.splits_rows]
        assert all(p.columns == model.d_model for p in summed), "what is summed over ranks goes to the residual stream"
        assert all(p.rows % p.max_split == 0 for p in summed)


def test_deepseek_v3s_kinds() -> None:
    """DeepSeek-V3, arXiv:2412.19437, section 4.2: three dense layers, 58 with 256 experts, 8 and 1 active."""
    dense, sparse = layer_kinds(MODELS["deepseek-v3"])
    assert (dense.n_layers, dense.n_experts, dense.d_ff) == (3, 0, 18432)
    assert (sparse.n_layers, sparse.n_experts, sparse.n_active_experts, sparse.d_ff) == (58, 256, 8, 9 * 2048)
    assert (sparse.n_heads, sparse.n_kv_heads, sparse.d_qk, sparse.d_value) == (128, 128, 192, 128)
    assert sparse.kv_cache_width == 512 + 64
    assert [p.name for p in sparse.projections] == [
        "query down",
        "query up",
        "latent down",
        "latent up",
        "attention output",
        "router",
        "expert gate and up",
        "expert down",
        "shared expert gate and up",
        "shared expert down",
    ]


def test_maverick_alternates_experts_and_chunks() -> None:
    """Llama 4: experts in every second layer, every fourth attends to everything; 48 layers make three kinds."""
    kinds = {(k.n_experts, k.window, k.chunked): k.n_layers for k in layer_kinds(MODELS["llama-4-maverick"])}
    assert kinds == {(0, 8192, True): 24, (128, 8192, True): 12, (128, None, False): 12}


def test_gemma_3_and_gpt_oss_have_windows_in_the_layers_they_should() -> None:
    """One in six of Gemma 3's 62 layers attends to everything, one in two of gpt-oss's 36."""
    assert {k.window: k.n_layers for k in layer_kinds(MODELS["gemma-3-27b"])} == {1024: 52, None: 10}
    assert {k.window: k.n_layers for k in layer_kinds(MODELS["gpt-oss-120b"])} == {128: 18, None: 18}


def test_one_key_for_all_queries_cannot_be_split() -> None:
    (kind,) = layer_kinds(MODELS["falcon-7b"])
    split = {p.name: p.max_split for p in kind.projections}
    assert split == {"query": 71, "key and value": 1, "attention output": 71, "up": 18176, "down": 18176}
    assert kind.parallel_block
    assert kind.n_norms == 1


@given(st.integers(1, 300), st.integers(1, 60), st.booleans())
def test_attended_tokens_are_those_that_a_count_finds(seq_len: int, width: int, chunked: bool) -> None:
    """Token by token; the convention leaves out half of each token's attention to itself (as s/2 does), at most."""
    kind = with_window(Window(n_tokens=width, chunked=chunked))
    counted = [i % width + 1 if chunked else min(i + 1, width) for i in range(seq_len)]
    assert [attended_last(kind, i + 1) for i in range(seq_len)] == counted
    mean = sum(counted) / seq_len
    assert mean - 0.5 <= attended_per_token(kind, seq_len) + 1e-9
    assert attended_per_token(kind, seq_len) <= mean


@given(st.integers(1, 10_000), st.booleans())
def test_a_window_as_long_as_the_sequence_is_none(seq_len: int, chunked: bool) -> None:
    wide = with_window(Window(n_tokens=seq_len, chunked=chunked))
    assert attended_per_token(wide, seq_len) == attended_per_token(with_window(None), seq_len) == seq_len / 2


@given(st.integers(1, 5_000), st.integers(1, 5_000))
def test_a_wider_window_never_attends_to_less(seq_len: int, width: int) -> None:
    narrow, wide = (with_window(Window(n_tokens=w)) for w in (width, width + 1))
    assert attended_per_token(narrow, seq_len) <= attended_per_token(wide, seq_len)
