"""One thread for steps of tiny operations, all cores for the rest, whatever the machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.models import SMALL
from twobills.counts.threads import useful_threads
from twobills.plan.size_here import ladder
from twobills.specs.model import ModelSpec

DIGITS = replace(SMALL, n_layers=4, n_kv_heads=2, d_ff=192, vocab_size=32)


@pytest.mark.parametrize(("n_cores", "tiny"), [(1, 1), (2, 1), (64, 1)])
def test_the_digits_take_one_core_and_a_model_of_text_all(n_cores: int, tiny: int) -> None:
    text = next(m for m in ladder(vocab_size=4096, max_seq_len=256) if m.d_model == 128)
    assert useful_threads(DIGITS, n_cores, batch_size=8, seq_len=65) == tiny
    assert useful_threads(text, n_cores, batch_size=8, seq_len=256) == n_cores


@pytest.mark.parametrize("model", [DIGITS, replace(DIGITS, vocab_size=4096)])
def test_a_larger_part_never_takes_fewer(model: ModelSpec) -> None:
    taken = [useful_threads(model, 2, batch_size=n, seq_len=128) for n in (1, 2, 4, 8, 16)]
    assert taken == sorted(taken)
