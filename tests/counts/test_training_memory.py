"""What training holds at once: laws of the count. That it is what is really held is tested in ``tests/jobs``."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import SMALL
from twobills.counts.memory import PART_TOKENS
from twobills.counts.params import count_params
from twobills.counts.training_memory import rows_at_once, step_memory, training_state_bytes
from twobills.specs.dtype import DType


def test_state_by_the_bytes_of_each_parameter() -> None:
    """AdamW in bf16: 2 + 4 of weights, 2 of gradient, 12 of optimiser; fp32 weights are their own masters."""
    n = count_params(SMALL).total
    assert training_state_bytes(SMALL, DType.BF16, "adamw") == 20 * n
    assert training_state_bytes(SMALL, DType.FP32, "adamw") == 20 * n
    by_muon = count_params(SMALL).layer_matmul
    assert training_state_bytes(SMALL, DType.BF16) == 20 * (n - by_muon) + 18 * by_muon


def test_by_hand_a_larger_batch_takes_no_more() -> None:
    """A part is some thousand tokens, however many parts there are."""
    assert [rows_at_once(n, 256) for n in (1, 8, 16, 17, 1000)] == [1, 8, 8, 6, 8]
    assert rows_at_once(8, 256, accumulate=4) == 2
    assert rows_at_once(3, 2 * PART_TOKENS) == 1
    assert rows_at_once(1000, 256, accumulate=4, by_hand=False) == 250


@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize("dtype", [DType.BF16, DType.FP32])
@given(n_rows=st.integers(1, 200), d_ff=st.sampled_from([64, 128, 1024]), optimizer=st.sampled_from(["muon", "adamw"]))
def test_more_is_never_less(by_hand: bool, dtype: DType, n_rows: int, d_ff: int, optimizer: str) -> None:
    model = replace(SMALL, d_ff=d_ff)
    small, large, wide = (
        step_memory(m, n_rows=rows, seq_len=128, dtype=dtype, optimizer=optimizer, by_hand=by_hand)
        for m, rows in ((model, n_rows), (model, n_rows + 1), (replace(model, vocab_size=5000), n_rows))
    )
    assert small.state_bytes < small.peak_bytes <= large.peak_bytes
    assert small.state_bytes == large.state_bytes
    assert small.peak_bytes < wide.peak_bytes


def test_logits_never_exist_whole() -> None:
    """Ten times the vocabulary is ten times the head, but no larger chunk of logits."""
    rows = {"n_rows": 64, "seq_len": 128, "dtype": DType.BF16, "by_hand": False}
    large, huge = (step_memory(replace(SMALL, vocab_size=n), **rows) for n in (32_768, 327_680))  # type: ignore[arg-type]
    head = 2 * SMALL.d_model * (327_680 - 32_768)
    assert huge.part_bytes - large.part_bytes < 2.1 * head + 300e6
    assert 64 * 128 * 327_680 * 2 > 5e9
