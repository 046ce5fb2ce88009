from __future__ import annotations

from typing import Any

import pytest

from twobills.errors import CatalogError
from twobills.specs.flop_totals import FlopConvention, flop_totals, read_flop_total

ROW: dict[str, Any] = {
    "name": "x",
    "model": "gpt2",
    "seq_len": 1024,
    "n_tokens": 1e10,
    "flops": 7.5e18,
    "convention": "six_nd",
    "source": "a test",
    "as_of": "2026-01-01",
    "verified": False,
}


def test_a_row_is_read() -> None:
    row = read_flop_total(ROW)
    assert (row.convention, row.convention_stated, row.agrees) == (FlopConvention.SIX_ND, True, True)


def test_every_total_is_named_once_and_sourced() -> None:
    rows = flop_totals()
    assert len({row.name for row in rows}) == len(rows) >= 35
    assert all(row.source and row.as_of for row in rows)
    assert all(("recalled" in row.source) <= (not row.verified) for row in rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": None}, "source is missing"),
        ({"tokens": 3}, "unknown key 'tokens'"),
        ({"convention": "ours"}, "convention='ours': not one of six_nd, six_nd_active"),
        ({"flops": 0}, "flops=0: must be a number above 0"),
        ({"n_tokens": float("inf")}, "n_tokens=inf"),
        ({"n_params": 1e9}, "a row has either a model or n_params"),
        ({"model": None}, "a row has either a model or n_params"),
        ({"model": None, "seq_len": None, "n_params": 1e9}, "params_source=None: goes with n_params"),
        ({"seq_len": None}, "seq_len=None: goes with a model"),
        ({"agrees": False}, "must say why the row does not agree"),
        ({"convention_stated": False}, "what points to the convention"),
    ],
)
def test_a_row_that_makes_no_sense_is_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogError, match=message) as caught:
        read_flop_total({key: value for key, value in {**ROW, **change}.items() if value is not None})
    assert str(caught.value).startswith("flop_totals.toml: x: ")
    assert "\n" not in str(caught.value)
