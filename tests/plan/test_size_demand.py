"""From which demand a known size pays in dollars: at that demand both bills are the same."""

from __future__ import annotations

import pytest

from tests.plan.sizing import LAW, question
from twobills.laws.optimum import optimum_for_loss
from twobills.plan.size import ladder, shapes, size_table
from twobills.plan.size_demand import pays_from


def test_an_over_trained_size_pays_from_some_demand_on() -> None:
    asked = question(1e10, quality_params=30e9)
    sizes = size_table(asked, ladder(LAW, asked.target_loss, 20))
    own, optimal = (size_table(asked, shapes([n])) for n in (9e9, optimum_for_loss(LAW, asked.target_loss).n_params))
    found = pays_from(own, optimal, sizes, [0])
    assert found is not None
    assert found.pays_from_answers is not None
    bills = []
    for table in (own, optimal):
        served = table.served[0][0]
        assert served is not None
        training = float(table.train_usd_per_token[0, 0] * table.n_tokens[0])
        bills.append(training + served.usd_per_answer * found.pays_from_answers)
    assert bills[0] == pytest.approx(bills[1])
    assert found.pays_from_answers < found.best_at_answers
    assert found.over_best_frac >= 0
    assert not found.always


def test_a_size_that_is_the_compute_optimal_one_never_repays_anything() -> None:
    asked = question(1e10)
    sizes = size_table(asked, ladder(LAW, asked.target_loss, 12))
    optimal = size_table(asked, shapes([13e9]))
    found = pays_from(optimal, optimal, sizes, [0])
    assert found is not None
    assert found.pays_from_answers is None


def test_a_size_that_fits_nothing_has_no_answer() -> None:
    asked = question(1e10)
    small = asked._replace(serve=(asked.serve[0]._replace(n_chips=1),))
    sizes = size_table(asked, ladder(LAW, asked.target_loss, 6))
    huge = size_table(small, shapes([300e9]))
    assert pays_from(huge, huge, sizes, [0]) is None
