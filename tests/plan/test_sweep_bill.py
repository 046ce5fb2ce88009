"""A sweep's expected bill is its cells' forecasts added up, and each forecast is that of an ordinary training run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import RATES, machine
from twobills.plan.sweep import Cell, first_cells
from twobills.plan.sweep_bill import Foreseen, cell_to_json, expected_to_json, foresee, together
from twobills.specs.dtype import DType
from twobills.specs.sweep import SweepSpec

SPEC = SweepSpec(out=Path("sweep"))
BUDGETS = (1e12, 4e12)
amounts = st.floats(0, 1e15)
several = st.lists(st.builds(Foreseen, st.integers(1, 5), amounts, amounts, amounts, amounts), max_size=6)


def forecast(cell: Cell, *, heldout_tokens: int = 10_000) -> Foreseen:
    return foresee(cell, machine(), RATES, dtype=DType.BF16, heldout_tokens=heldout_tokens)


@pytest.fixture(scope="module")
def foreseen() -> list[tuple[Cell, Foreseen]]:
    return [(cell, forecast(cell)) for budget in BUDGETS for cell in first_cells(SPEC, budget)]


def test_a_cell_pays_for_its_seconds_and_does_its_work(foreseen: list[tuple[Cell, Foreseen]]) -> None:
    for cell, one in foreseen:
        assert one.n_cells == 1
        assert one.usd == pytest.approx(one.chip_s * RATES.usd_per_chip_s)
        assert one.flops > one.compute_flops == cell.compute_flops, "evaluation is work besides"


def test_longer_evaluation_costs_more() -> None:
    (cell, *_) = first_cells(SPEC, 1e12)
    less, more = forecast(cell), forecast(cell, heldout_tokens=1_000_000)
    assert more.flops > less.flops
    assert more.usd > less.usd
    assert more.compute_flops == less.compute_flops


@given(several, several)
def test_sums_of_sums_are_the_sum(some: list[Foreseen], others: list[Foreseen]) -> None:
    whole, parts = together([*some, *others]), together([together(some), together(others)])
    assert tuple(whole) == pytest.approx(tuple(parts))
    assert together([]) == Foreseen(0, 0, 0, 0, 0)


def test_budgets_add_up_to_the_total_and_slots_share_its_seconds(foreseen: list[tuple[Cell, Foreseen]]) -> None:
    expected = expected_to_json(foreseen, 2)
    total = expected["total"]
    assert [each["budget_flops"] for each in expected["budgets"]] == list(BUDGETS)
    for name in ("n_cells", "chip_s", "total_usd", "executed_flops", "compute_flops"):
        assert total[name] == pytest.approx(sum(each[name] for each in expected["budgets"]))
    for name in ("chip_s", "total_usd", "compute_flops"):
        assert total[name] == pytest.approx(sum(each[name] for each in expected["cells"]))
    assert total["n_cells"] == len(expected["cells"]) == len(foreseen)
    assert total["wall_s"] == total["chip_s"] / 2
    for each in expected["budgets"]:
        spent = each["n_cells"] * each["budget_flops"]
        assert each["compute_flops"] == pytest.approx(spent, rel=0.03), "a cell spends its budget within half a step"


def test_a_cell_is_told_as_it_is_trained(foreseen: list[tuple[Cell, Foreseen]]) -> None:
    cell, _ = foreseen[0]
    told = cell_to_json(cell)
    assert told["n_tokens"] == told["n_steps"] * told["batch_size"] * told["seq_len"]
    assert (told["d_model"], told["n_layers"]) == (cell.model.d_model, cell.model.n_layers)
    assert told["n_params"] == cell.n_params
