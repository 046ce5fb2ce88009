"""A sweep is refused in one line where no law could come of it, and knows what makes it another sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twobills.errors import RequestError
from twobills.specs.limits import Limits
from twobills.specs.sweep import SweepSpec

SPEC = SweepSpec(out=Path("sweep"))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"budgets_flops": ()}, "--budgets"),
        ({"budgets_flops": (1e12, 1e12)}, "--budgets"),
        ({"budgets_flops": (3e12, 1e12)}, "--budgets"),
        ({"budgets_flops": (float("nan"),)}, "--budgets"),
        ({"n_sizes": 3}, "--sizes"),
        ({"vocab_size": 100}, "--vocab-size"),
        ({"seq_len": 1}, "--seq-len"),
        ({"seed": -1}, "--seed"),
        ({"dtype": "fp8"}, "--dtype"),
        ({"workers": -1}, "--workers"),
        ({"max_cells": 0}, "--max-cells"),
        ({"usd_per_chip_hour": float("nan")}, "--usd-per-chip-hour"),
    ],
)
def test_what_can_be_no_sweep_is_said_in_one_line(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError, match=named) as raised:
        replace(SPEC, **wrong)
    assert "\n" not in str(raised.value)


def test_limits_and_workers_make_no_other_sweep_but_sizes_do() -> None:
    same = replace(SPEC, workers=3, max_cells=5, limits=Limits(max_usd=1.0), out=Path("moved"))
    assert same.identity() == SPEC.identity()
    assert replace(SPEC, n_sizes=6).identity() != SPEC.identity()
    assert replace(SPEC, budgets_flops=(1e12,)).identity() != SPEC.identity()
