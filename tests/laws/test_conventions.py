from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import SpecError
from twobills.laws.conventions import (
    compute_as,
    flops_per_token_of_shape,
    non_embedding_params,
    params_as,
    total_params,
)
from twobills.laws.forms import ComputeMeaning, ParamsMeaning
from twobills.specs import catalog


@pytest.mark.parametrize(
    ("n_layers", "d_model", "low", "high"), [(8, 512, 0.43, 1.32), (80, 8192, 0.92, 0.94)], ids=["small", "large"]
)
def test_deepseeks_table(n_layers: int, d_model: int, low: float, high: float) -> None:
    """DeepSeek LLM 2024, table 3: 6N without embeddings and with the head, over FLOPs counted (V 102,400, s 4,096)."""
    without = flops_per_token_of_shape(n_layers, d_model)
    with_head = flops_per_token_of_shape(n_layers, d_model, vocab_size=102_400)
    counted = flops_per_token_of_shape(n_layers, d_model, attended_tokens=4096)
    assert without / counted == pytest.approx(low, abs=6e-3)
    assert with_head / counted == pytest.approx(high, abs=6e-3)


def test_deepseeks_smallest_model() -> None:
    """25.2M parameters, 77.6M with the head, 352M FLOPs a token."""
    assert flops_per_token_of_shape(8, 512) / 6 == pytest.approx(25.2e6, rel=2e-3)
    assert flops_per_token_of_shape(8, 512, vocab_size=102_400) / 6 == pytest.approx(77.6e6, rel=2e-3)
    assert flops_per_token_of_shape(8, 512, attended_tokens=4096) == pytest.approx(352e6, rel=2e-3)


@given(st.floats(1e3, 1e13))
def test_with_and_without_embeddings_are_inverse(n_params: float) -> None:
    assert non_embedding_params(total_params(n_params)) == pytest.approx(n_params, rel=1e-6)
    assert total_params(n_params) > n_params


def test_the_assumed_shape_is_gpt3s() -> None:
    """GPT-3 has 96 layers of 12288: the catalogue's exact count and the assumed shape agree within a per cent."""
    gpt3 = catalog.model("gpt3-175b")
    total, without = params_as(gpt3, ParamsMeaning.TOTAL), params_as(gpt3, ParamsMeaning.NON_EMBEDDING)
    assert total_params(without) == pytest.approx(total, rel=0.01)


def test_what_each_law_counts() -> None:
    model = catalog.model("llama-3-8b")
    total, linear = params_as(model, ParamsMeaning.TOTAL), params_as(model, ParamsMeaning.LINEAR)
    table = 128256 * 4096
    assert total == 8_030_261_248  # Meta's own count
    assert params_as(model, ParamsMeaning.NON_EMBEDDING) == total - 2 * table
    assert linear < total - table
    six_nd = compute_as(model, 1e9, 8192, ComputeMeaning.SIX_ND, ParamsMeaning.TOTAL)
    counted = compute_as(model, 1e9, 8192, ComputeMeaning.COUNTED, ParamsMeaning.TOTAL)
    assert six_nd == 6 * total * 1e9
    assert counted == pytest.approx(6 * linear * 1e9 + 6 * 32 * 4096 * 8192 * 1e9, rel=1e-3)


def test_nothing_cannot_be_converted() -> None:
    with pytest.raises(SpecError, match="total=0"):
        non_embedding_params(0)
    with pytest.raises(SpecError, match="non_embedding=-1"):
        total_params(-1)
