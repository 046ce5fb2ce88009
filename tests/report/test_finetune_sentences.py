"""What is said of fine-tuning follows from its document."""

from __future__ import annotations

import math
from typing import Any

from twobills.report.finetune_sentences import base_sentence, finetune_sentence, finetune_table


def document(**changed: Any) -> dict[str, Any]:
    """Four hundred chats, twice each, after which an answer's token is e times as likely."""
    data = {
        "n_sequences": 400,
        "n_heldout_sequences": 20,
        "n_tokens": 20_000,
        "n_answer_tokens": 5_000,
        "n_cut": 0,
        "n_left_out": 0,
        "n_added_tokens": 2,
    }
    return {
        "data": data,
        "training": {"epochs": 2.0},
        "quality": {"before_nats_per_token": 2.5, "after_nats_per_token": 1.5},
        "base": {"folder": "base", "digest": "sha256:1", "training_bill": {"total_usd": 12.5}},
        **changed,
    }


def test_the_gain_is_a_ratio_of_likelihoods() -> None:
    words = finetune_sentence(document())
    assert "400 chats, 2 times each" in words
    assert "1.50 nats instead of 2.50" in words
    assert "2.72 times as likely" in words
    assert "longer than the context" not in words


def test_what_was_cut_is_said() -> None:
    changed = document()
    changed["data"] |= {"n_cut": 3, "n_left_out": 1}
    assert "3 lost their end and 1 had no answer within it and were left out." in finetune_sentence(changed)


def test_a_run_that_came_apart_says_so() -> None:
    quality = {"before_nats_per_token": 2.5, "after_nats_per_token": math.nan}
    assert "came apart" in finetune_sentence(document(quality=quality))


def test_the_table_and_the_base() -> None:
    rows = {cells[0]: cells[1] for cells in finetune_table(document()).rows}
    assert rows["tokens, and how many are answers"] == "20.0k, 25.0 %"
    assert "whose own training bill, $12.50, is not in this one" in base_sentence(document())
    foreign = {"folder": "base", "digest": "sha256:1", "training_bill": None}
    assert "whose own bill is not known" in base_sentence(document(base=foreign))
