from __future__ import annotations

from dataclasses import replace

import pytest

from twobills.flows.validation.flop_totals import agreement, flop_totals_table, our_flops
from twobills.specs.flop_totals import flop_totals


def test_the_bar_is_met() -> None:
    """At least 20 published totals within 3 %, each in its own source's convention."""
    found = agreement(flop_totals_table())
    assert found.n_within == found.n >= 20
    assert found.n_within_stated >= 20
    assert found.max_abs_rel_error <= 0.03


def test_every_row_is_shown_and_marked_for_what_it_is() -> None:
    table = flop_totals_table()
    assert [one.row for one in table] == list(flop_totals())
    assert all(one.within == one.row.agrees for one in table)


def test_a_row_that_disagrees_is_no_evidence() -> None:
    first, *_ = [one for one in flop_totals_table() if one.counted]
    off = first._replace(ours_flops=first.row.flops * 1.5)
    assert agreement([first, off]).n_within == 1
    assert agreement([first, off._replace(row=replace(first.row, agrees=False, note="why"))]).n == 1


def test_our_count_does_not_know_the_published_one() -> None:
    row = flop_totals()[0]
    assert our_flops(replace(row, flops=1.0)) == our_flops(row)


def test_a_row_as_json() -> None:
    document = flop_totals_table()[0].to_json()
    assert document["model"] == "GPT-3 Small"
    assert document["convention"] == "six_nd"
    assert document["published_flops"] == 2.25e20
    assert document["ours_flops"] / document["published_flops"] - 1 == pytest.approx(document["rel_error"])
