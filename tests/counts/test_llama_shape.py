from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.counts.llama_shape import llama_shape
from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.specs import catalog


@given(st.floats(3e8, 1e13))
def test_a_shape_has_the_size_that_was_asked_for(n_params: float) -> None:
    shape = llama_shape(n_params)
    assert count_params(shape).total == pytest.approx(n_params, rel=0.07)
    assert shape.n_heads % shape.n_kv_heads == 0
    assert shape.d_model == shape.n_heads * shape.d_head


def test_eight_billion_is_llama_3_8b() -> None:
    """The proportions are its: the shape is, too, but for what costs nothing."""
    ours, llama = llama_shape(8e9), catalog.model("llama-3.1-8b")
    for field in ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_head", "d_ff", "vocab_size"):
        assert getattr(ours, field) == getattr(llama, field)


@pytest.mark.parametrize("n_params", [8.0, 1e15])
def test_what_is_no_model_is_refused(n_params: float) -> None:
    with pytest.raises(SpecError, match=r"n_params=.*: must be between 1e\+07 and 1e\+14"):
        llama_shape(n_params)
