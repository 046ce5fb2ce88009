"""Tables: rows as wide as their columns, sums at the foot, stamps visible, absence never zero."""

from __future__ import annotations

from typing import Any

import pytest

from tests.report.run_document import make_document
from twobills.plan.life import life
from twobills.report import tables
from twobills.report.tables import Table
from twobills.units import show_usd


def all_tables(document: dict[str, Any]) -> list[Table]:
    found = [
        tables.life_table(document["life"]),
        tables.plan_table(document["plan"]),
        tables.sizes_table(document["plan"]["sizes"]),
        tables.model_table(document),
        tables.quality_table(document["quality"]),
        tables.requests_table(document["requests"]),
        tables.machine_table(document["machine"]),
        tables.provenance_table(document["provenance"]),
    ]
    for job, bill in document["bills"].items():
        found += [tables.bill_table(bill["measured"]), tables.bill_table(bill["measured"], bill["predicted"])]
        found += [tables.gap_table(job, bill["gaps"])]
    return found


def test_every_row_has_a_cell_for_every_column() -> None:
    for table in all_tables(make_document()):
        assert table.rows, table.title
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.title
        assert table.n_text_columns <= len(table.columns)


@pytest.mark.parametrize("job", ["training", "inference"])
def test_a_bill_ends_with_its_total_beside_the_planned_one(job: str) -> None:
    bill = make_document()["bills"][job]
    table = tables.bill_table(bill["measured"], bill["predicted"])
    assert table.has_total
    assert table.rows[-1][-2:] == (
        show_usd(bill["measured"]["total_usd"]),
        show_usd(bill["predicted"]["total_usd"]),
    )
    assert len(table.rows) == len(bill["measured"]["phases"]) + 1


def test_a_bill_says_that_its_price_is_assumed_and_its_joules_declared() -> None:
    table = tables.bill_table(make_document()["bills"]["training"]["measured"])
    assert "price assumed" in table.title
    assert {row[table.columns.index("Energy is")] for row in table.rows} == {"declared"}


def test_a_phase_that_was_planned_and_did_not_happen_keeps_its_row() -> None:
    bill = make_document()["bills"]["training"]
    del bill["measured"]["phases"]["evaluate"]
    row = tables.bill_table(bill["measured"], bill["predicted"]).rows[1]
    assert row[0].startswith("evaluate")
    assert row[-2:] == ("$0.00", show_usd(bill["predicted"]["phases"]["evaluate"]["usd"]))


def test_energy_that_nobody_measured_is_not_zero() -> None:
    bill = make_document()["bills"]["training"]["measured"]
    bill["total"]["energy"] = {"total_j": 0.0, "stamp": None}
    assert tables.ABSENT in tables.bill_table(bill).rows[-1]


def test_rounding_dust_is_no_gap() -> None:
    gaps = make_document()["bills"]["training"]["gaps"]
    gaps["work_usd"] = 4e-19
    assert tables.gap_table("training", gaps).rows[-1][2] == "$0.00"


def test_a_crossover_that_never_comes() -> None:
    table = tables.life_table([point.to_json() for point in life(1.0, 0.0, 2.0)])
    assert {row[2] for row in table.rows} == {"never"}


def test_what_does_not_exist_reads_not_measured() -> None:
    document = make_document()
    document["quality"] = {"heldout_bits_per_byte": None, "gzip_bits_per_byte": 2.0, "xz_bits_per_byte": None}
    assert [row[1] for row in tables.quality_table(document["quality"]).rows] == [
        tables.ABSENT,
        "2.00",
        tables.ABSENT,
    ]
    requests = {**document["requests"], "ttft_s": None}
    assert tables.requests_table(requests).rows[0][1:] == (tables.ABSENT,) * 4
    plan = {"training": {**document["plan"]["training"], "total_usd": None}}
    assert tables.plan_table(plan).rows[1][2] == tables.ABSENT
