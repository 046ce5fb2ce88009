"""A load's fields, and its one-line refusals."""

from __future__ import annotations

import pytest

from twobills.errors import SpecError
from twobills.specs.load import Load


def test_a_load_is_queued_unless_it_says_how_requests_come() -> None:
    load = Load(prompt_tokens=1000, answer_tokens=300)
    assert (load.concurrency, load.requests_per_s, load.cached_frac) == (None, None, 0.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt_tokens": 0}, "prompt_tokens=0: must be at least 1"),
        ({"answer_tokens": -5}, "answer_tokens=-5: must be at least 1"),
        ({"prompt_tokens": float("nan")}, "prompt_tokens=nan: must be at least 1"),
        ({"concurrency": 0}, "concurrency=0: must be at least 1"),
        ({"concurrency": 4, "requests_per_s": 1}, "give one"),
        ({"requests_per_s": 0}, "without traffic there is no bill"),
        ({"requests_per_s": -1}, "requests_per_s=-1: must be above 0"),
        ({"cached_frac": 1}, "cached_frac=1: must be from 0 to below 1"),
        ({"cached_frac": -0.1}, "cached_frac=-0.1"),
        ({"prompt_tokens": float("inf")}, "prompt_tokens=inf"),
        ({"concurrency": float("inf")}, "concurrency=inf"),
        ({"requests_per_s": float("inf")}, "requests_per_s=inf"),
    ],
)
def test_what_no_load_can_be_is_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(SpecError) as refused:
        Load(**{"prompt_tokens": 1000, "answer_tokens": 300, **changes})
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
