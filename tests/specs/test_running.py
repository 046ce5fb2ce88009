from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest

from twobills.errors import SpecError
from twobills.specs.catalog import read_rows
from twobills.specs.running import Running, default_running, silicon_costs

NUMBERS = [f.name for f in fields(Running) if f.name != "facts"]


def test_every_row_says_where_it_comes_from() -> None:
    for table in read_rows("running").values():
        for name, row in table.items():
            assert row["source"], name
            assert len(row["as_of"]) == 10, name
            assert isinstance(row["verified"], bool), name


@pytest.mark.parametrize("name", NUMBERS)
def test_every_default_lies_within_the_range_of_its_sources(name: str) -> None:
    running = default_running()
    fact = running.facts[name]
    assert getattr(running, name) == fact.value
    assert fact.low <= fact.value <= fact.high


def test_units_of_the_file_become_base_units() -> None:
    running = default_running()
    assert running.electricity_usd_per_j * 3.6e6 == pytest.approx(0.0826)
    assert running.mtbf_chip_s / 3600 == pytest.approx(50677)
    assert running.life_s / 31_557_600 == pytest.approx(5)
    assert running.checkpoint_write_bytes_per_s == pytest.approx(122e6)


def test_the_failure_rate_is_derived_from_the_observed_rows() -> None:
    running, observed = default_running(), read_rows("running")["observed"]
    fact = running.facts["mtbf_chip_s"]

    def chip_s(run: str) -> float:
        row = observed[run]
        return float(row["n_chips"] * row["days"] * 86400 / row["n_interruptions"])

    rsc_2 = observed["meta-rsc-2"]
    assert fact.value == pytest.approx(chip_s("llama-3-405b"), rel=1e-4)
    assert fact.low == pytest.approx(chip_s("opt-175b"), rel=1e-4)
    assert fact.high == pytest.approx(
        rsc_2["chips_per_node"] * 86400 * 1000 / rsc_2["failures_per_thousand_node_days"], rel=1e-4
    )


def test_a_users_figure_is_no_assumption_of_ours() -> None:
    running = default_running()
    assert running.is_assumed("evaluation_frac")
    assert not running.is_assumed("pue")
    mine = replace(running, evaluation_frac=0.02)
    assert not mine.is_assumed("evaluation_frac")
    assert mine.source("evaluation_frac") == "given by the user"
    assert mine.source("pue") == running.source("pue") != "given by the user"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("pue", 0.9, "pue=0.9: must be between 1 and 10"),
        ("mtbf_chip_s", 0.0, "mtbf_chip_s=0: must be above 0"),
        ("restart_s", -1.0, "restart_s=-1: must be at least 0"),
        ("utilization_frac", 1.2, "utilization_frac=1.2: must be between 0 and 1"),
        ("life_s", math.nan, "life_s=nan: must be at least 0"),
        ("life_s", math.inf, "life_s=inf: must be a finite number"),
    ],
)
def test_nonsense_is_refused_in_one_line(name: str, value: float, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(default_running(), **{name: value})  # type: ignore[arg-type]
    assert str(caught.value) == says


def test_a_chip_costs_less_to_make_than_to_buy() -> None:
    h100 = silicon_costs()["h100-sxm"]
    assert (h100.parts_usd, h100.price_usd) == (3320, 28000)
    with pytest.raises(SpecError, match="parts_usd=30000: must be between 0 and price_usd=28000"):
        replace(h100, parts_usd=30000.0)
