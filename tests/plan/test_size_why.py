"""Why dollars and FLOPs part: the words follow the figures, and the figures add up to the bill."""

from __future__ import annotations

import pytest

from tests.plan.sizing import LAW, question
from twobills.laws.lifetime import lifetime_optimum
from twobills.plan.size import cheapest, ladder, size_table
from twobills.plan.size_why import Why, why


def reasons(n_answers: float, *, prompt_tokens: float = 1000, flop_params: float | None = None) -> Why:
    asked = question(n_answers)
    service = asked.service._replace(prompt_tokens=prompt_tokens)
    asked = asked._replace(service=service)
    table = size_table(asked, ladder(LAW, asked.target_loss, 24))
    best = cheapest(table, [0])
    assert best is not None
    usual = flop_params or lifetime_optimum(LAW, asked.target_loss, service.tokens).n_params
    return why(LAW, asked.target_loss, service, table, best, usual)


def test_prices_of_reading_and_writing_make_up_the_price_of_serving() -> None:
    found = reasons(1e11)
    assert found.usd_per_prompt_flop is not None
    assert found.usd_per_answer_flop is not None
    assert found.serve_over_train is not None
    mean = (1000 * found.usd_per_prompt_flop + 300 * found.usd_per_answer_flop) / 1300
    assert mean / found.usd_per_train_flop == pytest.approx(found.serve_over_train)


def test_writing_waits_for_memory() -> None:
    found = reasons(1e11)
    assert found.usd_per_answer_flop is not None
    assert found.usd_per_prompt_flop is not None
    assert found.usd_per_answer_flop > found.usd_per_prompt_flop
    assert any("waits for memory" in words for words in found.words)


def test_a_dearer_flop_of_serving_asks_for_a_smaller_model() -> None:
    found = reasons(1e11)
    assert found.serve_over_train is not None
    assert found.weighted_n_params is not None
    asked = question(1e11)
    plain = lifetime_optimum(LAW, asked.target_loss, asked.service.tokens).n_params
    assert (found.weighted_n_params < plain) == (found.serve_over_train > 1)


def test_where_they_agree_it_says_so_and_where_not_which_way() -> None:
    near = reasons(1e11)
    assert ("agree" in near.words[0]) != near.disagree
    far = reasons(1e11, flop_params=1e11)
    assert far.disagree
    assert "dollars want the smaller model" in far.words[0]


def test_without_demand_no_serving_is_priced() -> None:
    found = reasons(0)
    assert found.serve_over_train is None
    assert found.usd_per_answer_flop is None
    assert not any("serving" in words for words in found.words)
