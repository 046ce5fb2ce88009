from __future__ import annotations

from typing import Any

import pytest

from tests.runs import run_of
from tests.sharded import LLAMA
from twobills.errors import SpecError
from twobills.specs.dtype import DType
from twobills.specs.run import JobKind


def test_tokens_make_steps() -> None:
    run = run_of(n_tokens=8e6, seq_len=1000, global_batch=20)
    assert run.tokens_per_step == 20_000
    assert run.n_steps == 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_tokens": 0}, r"^n_tokens=0: must be a number above 0"),
        ({"n_tokens": float("inf")}, "n_tokens=inf: must be a number above 0"),
        ({"seq_len": 0}, "seq_len=0: must be at least 1"),
        ({"global_batch": 0}, "global_batch=0: must be at least 1"),
        ({"n_tokens": 1000}, "n_tokens=1000: less than one step of 128 sequences of 4096 tokens"),
        ({"dtype": DType.FP32}, "dtype=fp32: a run is in one of bf16, fp8"),
        ({"job": JobKind.LORA}, "lora_rank: not given"),
        ({"job": JobKind.LORA, "lora_rank": 0}, "lora_rank=0: must be at least 1"),
        ({"lora_rank": 8}, "lora_rank=8: .* only a lora run has one; job=pretrain"),
        ({"job": JobKind.DISTILL}, "teacher: not given; a distill run needs"),
        ({"teacher": LLAMA}, "teacher=grouped queries, gated: only a distill run has one"),
    ],
)
def test_a_run_that_contradicts_itself_is_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as raised:
        run_of(**change)
    assert "\n" not in str(raised.value)
