from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.plan.global_batch import default_global_batch, sharable_batch


@pytest.mark.parametrize(
    ("n_tokens", "seq_len", "published_tokens"),
    [(300e9, 2048, 3.2e6), (2e12, 4096, 4e6), (15.6e12, 8192, 16e6)],
    ids=["GPT-3", "Llama 2", "Llama 3.1 405B"],
)
def test_the_rule_is_near_published_batches(n_tokens: float, seq_len: int, published_tokens: float) -> None:
    """Brown et al. 2020, table 2.1; Touvron et al. 2023, section 2.2; Llama 3, arXiv:2407.21783, section 3.4.1."""
    tokens = default_global_batch(n_tokens, seq_len, 1024) * seq_len
    assert published_tokens / 2 <= tokens <= published_tokens * 2


@given(st.floats(1e6, 1e14), st.sampled_from([2048, 4096, 8192]), st.integers(1, 100_000))
def test_the_batch_is_within_the_run_and_dealt_out_to_odd_numbers_of_chips(
    n_tokens: float, seq_len: int, n_chips: int
) -> None:
    batch = default_global_batch(n_tokens, seq_len, n_chips)
    assert 1 <= batch <= max(1, n_tokens // seq_len)
    odd = n_chips // (n_chips & -n_chips)
    if odd * 16 * seq_len < 4e6 * (n_tokens / 1e12) ** 0.47:
        assert batch % odd == 0


def test_three_times_eight_chips_share_a_batch_evenly() -> None:
    assert default_global_batch(1e12, 4096, 24) % 3 == 0


def test_sparse_models_take_larger_batches() -> None:
    assert default_global_batch(1e12, 4096, 64, sparsity=16) == 4 * default_global_batch(1e12, 4096, 64)


@given(st.integers(1, 5000), st.lists(st.integers(1, 20000), min_size=1, max_size=3))
def test_a_batch_is_near_what_is_wanted(wanted: int, counts: list[int]) -> None:
    assert abs(sharable_batch(wanted, counts) - wanted) <= 0.05 * wanted


@given(st.floats(20, 3000), st.lists(st.integers(1, 5000), min_size=1, max_size=3))
def test_no_number_within_5_percent_is_shared_better(wanted: float, counts: list[int]) -> None:
    def shared(batch: int) -> int:
        return math.prod(math.gcd(batch, n) for n in counts)

    every = range(math.ceil(0.95 * wanted), math.floor(1.05 * wanted) + 1)
    assert shared(sharable_batch(wanted, counts)) == max(map(shared, every))


def test_a_batch_is_what_the_chips_can_deal_out() -> None:
    assert sharable_batch(16e6 / 8192, [16384]) == 2048
    assert sharable_batch(1024, [2000]) == 1000
    assert sharable_batch(0.3, [64]) == 1


def test_a_batch_without_end_is_found_at_once() -> None:
    start = time.process_time()
    batch = sharable_batch(1e15, [99_999_989, 99_999_971])
    assert batch % 99_999_989 == 0
    assert time.process_time() - start < 1.0
