"""The search's words and tables, from a document written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from twobills.report.search_tables import (
    LEGEND,
    best_table,
    front_table,
    legend,
    ranking_table,
    refusals,
    search_sentence,
)


def row(chip: str = "h100-sxm", *, days: float = 10.0, usd: float = 1e6, **plan: Any) -> dict[str, Any]:
    def around(value: float) -> dict[str, float]:
        return {"value": value, "p5": 0.8 * value, "p95": 1.25 * value}

    degrees = {"dp": 4, "tp": 8, "pp": 2, "cp": 1, "ep": 1, "zero": 1, "shard": 4, "interleave": 3, "micro_batch": 2}
    return {
        "chip": chip,
        "n_chips": 64,
        "dtype": "bf16",
        "plan": {**degrees, "recompute": "none", **plan},
        "step_s": around(2.5),
        "compute_frac": 0.7,
        "exposed_frac": 0.05,
        "bubble_frac": 0.2,
        "straggling_frac": 0.05,
        "mfu": 0.4,
        "wall_s": around(days * 86400),
        "total_usd": around(usd),
        "usd_per_ttoken": around(usd / 2),
        "spare_frac": 0.125,
        "speed_assumed": None,
        "price_assumed": None,
    }


def document(*best: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "model": {"name": "some-model"},
        "n_tokens": 2e12,
        "objective": "time",
        "max_days": None,
        "missed": None,
        "n_plans": 12345,
        "n_fit": 678,
        "best": list(best),
        "ranking": list(best),
        "front": list(best),
        "refused": [{"chip": "x", "n_chips": 1, "reason": "chip x: no price"}],
        **changed,
    }


def test_the_sentence_says_what_it_takes_and_what_it_waits_for() -> None:
    said = search_sentence(document(row()))
    assert "Of 12,345 ways to train some-model on 2.00T tokens, 678 fit in memory" in said
    assert "the fastest, on 64 x h100-sxm, takes 10.0 days (8.00 days to 12.5 days) and costs $1.00M" in said
    assert (
        "compute for 70.0 % of the time; the largest part of the rest is pipeline stages without work (20.0 %)" in said
    )


def test_the_sentence_names_cheaper_chips_where_time_is_wanted_and_quicker_where_money_is() -> None:
    quick, cheap = row("b200", days=5, usd=3e6), row("h100-sxm", days=10, usd=1e6)
    assert "The cheapest is 64 x h100-sxm: $1.00M." in search_sentence(document(quick, cheap))
    assert "The fastest is 64 x b200: 5.00 days." in search_sentence(document(cheap, quick, objective="dollars"))
    assert "The cheapest is" not in search_sentence(document(row(days=5, usd=1e6), row(days=10, usd=3e6)))


def test_a_deadline_is_named_where_it_is_met() -> None:
    assert "the cheapest of those within 30 days, on" in search_sentence(
        document(row(), objective="dollars", max_days=30.0)
    )
    assert "of those within" not in search_sentence(document(row(), max_days=1.0, missed="too long"))


@pytest.mark.parametrize(
    ("plan", "degrees", "settings"),
    [
        ({}, "tp8 pp2 dp4", "bf16 z1 m2 v3"),
        ({"tp": 1, "pp": 1, "interleave": 1, "dp": 64, "shard": 64, "zero": 3}, "dp64", "bf16 z3 m2"),
        ({"shard": 2, "recompute": "full"}, "tp8 pp2 dp4", "bf16 z1/2 m2 v3 full"),
        ({"cp": 2, "shard": 8, "recompute": "selective"}, "tp8 pp2 cp2 dp4", "bf16 z1 m2 v3 sel"),
        ({"ep": 4}, "tp8 pp2 ep4 dp4", "bf16 z1 m2 v3"),
        ({"tp": 1, "pp": 1, "dp": 1, "shard": 1, "zero": 0, "interleave": 1}, "one chip", "bf16 z0 m2"),
    ],
)
def test_a_plan_stands_in_two_columns(plan: dict[str, Any], degrees: str, settings: str) -> None:
    assert ranking_table(document(row(**plan))).rows[0][:2] == (degrees, settings)


def test_chips_are_a_column_where_there_are_several() -> None:
    found = document(row("b200"), row())
    for table in (best_table(found), ranking_table(found), front_table(found, 10)):
        assert table.columns[0] == "Chips"
        assert [cells[0] for cells in table.rows] == ["b200:64", "h100-sxm:64"]
        assert all(len(cells) == len(table.columns) for cells in table.rows)
    assert ranking_table(document(row())).columns[0] == "Degrees"


def test_a_long_front_is_shown_from_end_to_end() -> None:
    front = [row(days=day) for day in range(1, 31)]
    table = front_table(document(row(), front=front), 4)
    at = table.columns.index("Days")
    assert [cells[at] for cells in table.rows] == ["1.00", "11.0", "20.0", "30.0"]
    assert "4 of 30" in table.title


def test_what_is_left_out_has_its_reason() -> None:
    assert refusals(document(row())) == ["chip x: no price"]


def test_what_is_assumed_of_a_row_is_marked_and_of_a_winner_said() -> None:
    known, doubtful = row(), {**row("new", days=5.0), "speed_assumed": "a guess", "price_assumed": "as owned"}
    both = document(doubtful, known)
    table = ranking_table(both)
    days, cost = (table.columns.index(name) for name in ("Days", "Cost"))
    assert [cells[days] for cells in table.rows] == ["5.00 ~", "10.0"]
    assert [cells[cost] for cells in table.rows] == ["$1.00M ~", "$1.00M"]
    assert "Assumed of new: a guess. Its price is assumed: as owned." in search_sentence(both)
    assert "ssumed" not in search_sentence(document(known, {**doubtful, "total_usd": row(usd=2e6)["total_usd"]}))
    cheaper = {**doubtful, "total_usd": row(usd=1e5)["total_usd"]}
    assert "The cheapest is 64 x new: $100k. Assumed of new: a guess." in search_sentence(document(known, cheaper))
    assert legend(both) != LEGEND
    assert legend(document(known)) == LEGEND
