"""Plans as files: written and read again, percentages as people write them, mistakes in one line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import RequestError
from twobills.specs.life import DemandPoint
from twobills.specs.plan_file import PlanSpec, plan_of, plan_to_toml, read_plan, read_traffic

GIVEN: dict[str, Any] = {"model": "llama-3.1-8b", "tokens": "15T"}


@given(
    st.integers(1, 10**6),
    st.floats(1e-3, 1e12),
    st.floats(0, 0.99),
    st.one_of(st.none(), st.floats(1, 100)),
    st.booleans(),
    st.text('abc\\" -', min_size=1),
    st.lists(st.floats(1, 1e9), max_size=3),
)
def test_what_is_written_is_read_again(
    prompt: int, requests: float, cached: float, months: float | None, owned: bool, chips: str, table: list[float]
) -> None:
    rows = tuple(DemandPoint(float(day), traffic) for day, traffic in enumerate(table))
    plan = PlanSpec(
        **GIVEN,
        chips=chips,
        prompt_tokens=prompt,
        requests_per_day=None if rows else requests,
        cached=cached,
        version_months=months,
        owned=owned,
        traffic=rows,
    )
    assert plan_of(tomllib.loads(plan_to_toml(plan)), "here") == plan


def test_a_file_keeps_only_what_was_said(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(plan_to_toml(PlanSpec(**GIVEN, years=3.0)))
    assert [line for line in path.read_text().splitlines() if not line.startswith("#")] == [
        'model = "llama-3.1-8b"',
        'tokens = "15T"',
        "years = 3.0",
    ]
    assert read_plan(path) == PlanSpec(**GIVEN, years=3.0)


def test_people_write_percentages_and_prefixes() -> None:
    plan = plan_of({**GIVEN, "growth": "10%", "cached": 0.5, "requests_per_day": "1e7", "tokens": 15e12}, "here")
    assert (plan.growth, plan.cached, plan.requests_per_day, plan.tokens) == (0.1, 0.5, 1e7, "1.5e+13")
    assert plan_of({**GIVEN, "requests_per_day": "10M"}, "here").requests_per_day == 1e7


def test_a_table_of_traffic_is_read(tmp_path: Path) -> None:
    path = tmp_path / "traffic.csv"
    path.write_text("day,requests_per_day,why\n0,1e6,launch\n365,5e6,known\n")
    rows = read_traffic(path)
    assert plan_of({**GIVEN, "traffic": rows}, "here").life().demand.table == (
        DemandPoint(0, 1e6),
        DemandPoint(365, 5e6),
    )
    path.write_text("day,requests\n0,1\n")
    with pytest.raises(RequestError, match="columns day and requests_per_day"):
        read_traffic(path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"tokens": None}, "tokens is missing"),
        ({"requests_per_day": 1e30}, "requests_per_day=1e+30: must be at most 1e+15"),
        ({"requests_per_day": 0.0}, "requests_per_day=0: must be above 0; without traffic there is no second bill"),
        ({"requests_per_day": "-5"}, "not a quantity"),
        ({"prompt_tokens": -1}, "prompt_tokens=-1: must be at least 1"),
        ({"prompt_tokens": 1.5}, "prompt_tokens=1.5: must be a whole number"),
        ({"growth": "lots"}, "growth='lots': write it like 5% or 0.05"),
        ({"shave": "0%"}, "shave=0: must be above 0"),
        ({"engine": "steam"}, "engine='steam': must be one of tensorrt"),
        ({"owned": "yes"}, "owned='yes': must be true or false"),
        ({"traffic": [1]}, "each row must be a day and requests_per_day"),
        ({"traffic": [{"day": 0, "requests_per_day": 1}], "requests_per_day": 1}, "give one of the two"),
        ({"serve_usd_per_chip_hour": -1}, "serve_usd_per_chip_hour=-1: must be a number of dollars"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_nonsense_is_one_line(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError) as raised:
        plan_of({**GIVEN, **wrong}, "plan.toml")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_plan(tmp_path / "nowhere.toml")
    path = tmp_path / "broken.toml"
    path.write_text("model = ")
    with pytest.raises(RequestError, match="not TOML"):
        read_plan(path)
