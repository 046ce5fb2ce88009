from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills import units


@pytest.mark.parametrize(
    ("text", "value"),
    [("8e9", 8e9), ("8B", 8e9), ("1.5T", 1.5e12), ("15_000", 15000), ("405b", 405e9), ("7", 7)],
)
def test_counts_are_read_as_people_write_them(text: str, value: float) -> None:
    assert units.parse_count(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "eight", "8X", "8 B B", "-3"])
def test_what_is_not_a_count_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        units.parse_count(text)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("2m30s", 150), ("1.5h", 5400), ("3d", 259200)])
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "3 weeks"])
def test_what_is_not_a_duration_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (units.show_count(3_901_696), "3.90M"),
        (units.show_usd(0.00412), "$0.00412"),
        (units.show_usd(6.27e-10), "$6.27e-10"),
        (units.show_usd(12.3), "$12.30"),
        (units.show_usd(-4_210_000), "-$4.21M"),
        (units.show_usd(0), "$0.00"),
        (units.show_seconds(0.034), "34.0 ms"),
        (units.show_seconds(125), "2 min 05 s"),
        (units.show_flops_per_s(8.12e11), "812 GFLOP/s"),
        (units.show_bytes(7.8e6), "7.80 MB"),
        (units.show_energy(7.2e6), "2.00 kWh"),
        (units.show_energy(7.2e9), "2.00 MWh"),
        (units.show_energy(1.08e14), "30.0 GWh"),
        (units.show_hours(3600 * 30.84e6), "30.8M h"),
        (units.show_frac(0.831), "83.1 %"),
        (units.show_count(1.5e15), "1500T"),
        (units.show_count(1.5e30), "1.50e+30"),
        (units.show_usd(-2e40), "-$2.00e+40"),
        (units.show_usd(1e-200), "$1.00e-200"),
        (units.show_seconds(1e200), "1.16e+195 days"),
        (units.show_seconds(1e-30), "1.00e-27 ms"),
        (units.show_bytes(1e-30), "1.00e-30 B"),
        (units.show_energy(3.6e60), "1.00e+54 kWh"),
        (units.show_frac(1e-50), "1.00e-48 %"),
        (units.show_frac(1e50), "1.00e+52 %"),
    ],
)
def test_quantities_are_shown_to_three_digits(shown: str, expected: str) -> None:
    assert shown == expected


@given(st.floats(min_value=1e-9, max_value=1e14))
def test_showing_keeps_three_digits(x: float) -> None:
    assert float(units.significant(x)) == pytest.approx(x, rel=0.005)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_figure_is_hundreds_of_digits(x: float) -> None:
    shows = (
        *(units.show_count, units.show_usd, units.show_seconds, units.show_hours, units.show_bytes),
        *(units.show_energy, units.show_flops, units.show_flops_per_s, units.show_frac, units.significant),
    )
    assert all(len(show(x)) <= 22 for show in shows)


@given(st.floats(min_value=0, max_value=1e12))
def test_hours_and_seconds_round_trip(rate: float) -> None:
    assert units.per_s_to_per_hour(units.per_hour_to_per_s(rate)) == pytest.approx(rate)
