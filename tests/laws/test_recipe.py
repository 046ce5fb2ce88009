"""Batches grow with the data, rates fall with the width, and every value is one that the trainer takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twobills.laws.recipe import MIN_STEPS, recipe

tokens, widths = st.floats(1e4, 1e13), st.sampled_from([16, 64, 256, 1024, 4096])


@given(tokens, widths, st.sampled_from([32, 128, 1024]))
def test_values_are_such_as_the_trainer_takes(n_tokens: float, width: int, seq_len: int) -> None:
    found = recipe(d_model=width, n_tokens=n_tokens, seq_len=seq_len)
    assert found.batch_size >= 1
    assert 0 < found.lr < 1
    assert 0 < found.muon_lr < 1
    if found.batch_size > 1:
        assert n_tokens / (found.batch_size * seq_len) > 0.6 * MIN_STEPS


@given(tokens, st.floats(1.5, 100))
def test_more_data_never_makes_a_smaller_batch(n_tokens: float, times: float) -> None:
    less = recipe(d_model=64, n_tokens=n_tokens, seq_len=128)
    more = recipe(d_model=64, n_tokens=n_tokens * times, seq_len=128)
    assert more.batch_size >= less.batch_size


@given(tokens)
def test_wider_models_get_lower_rates(n_tokens: float) -> None:
    narrow, wide = (recipe(d_model=d, n_tokens=n_tokens, seq_len=128) for d in (64, 256))
    assert wide.lr < narrow.lr
    assert wide.muon_lr <= narrow.muon_lr
    assert wide.batch_size == narrow.batch_size
