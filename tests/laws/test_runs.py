from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.laws import chinchilla
from tests.shared_data import needs_shared_data
from twobills.errors import DataError
from twobills.flows.laws_runs import csv_runs
from twobills.laws.runs import read_runs, sizes, without_worst

GOOD = {"n_params": [1e8, 1e8, 2e8, 2e8], "n_tokens": [1e9, 2e9, 1e9, 2e9], "loss": [3.0, 2.9, 2.8, 2.7]}


def test_the_third_of_three_is_computed() -> None:
    runs = read_runs(GOOD, range(2, 6), "runs.csv")
    assert runs.compute_flops.tolist() == pytest.approx([6e17, 1.2e18, 1.2e18, 2.4e18])
    other = {"n_params": GOOD["n_params"], "compute_flops": runs.compute_flops.tolist(), "loss": GOOD["loss"]}
    assert read_runs(other, range(2, 6), "x").n_tokens.tolist() == pytest.approx(GOOD["n_tokens"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": [3.0, math.nan, 2.8, 2.7]}, "runs.csv, line 3: loss=nan: must be a number above 0"),
        ({"n_tokens": [1e9, 2e9, 0, 2e9]}, "runs.csv, line 4: n_tokens=0: must be a number above 0"),
        ({"n_params": [1e8, 1e8, 1e8, 1.01e8]}, "all 4 runs have one size"),
        ({"loss": [2.7, 2.9, 2.8, 3.0]}, "the loss rises with data"),
        ({"loss": [2.7, 2.7, 2.7, 2.7]}, "all 4 runs have one loss, 2.7"),
        ({"n_tokens": [1e9, 1e9, 1e9, 1e9]}, "all 4 runs saw as many tokens"),
    ],
)
def test_what_carries_no_law_is_one_line(change: dict[str, list[float]], message: str) -> None:
    with pytest.raises(DataError, match=message) as told:
        read_runs({**GOOD, **change}, range(2, 6), "runs.csv")
    assert "\n" not in str(told.value)


def test_three_runs_are_too_few() -> None:
    with pytest.raises(DataError, match="3 runs: a law takes at least 4"):
        read_runs({key: values[:3] for key, values in GOOD.items()}, range(2, 5), "runs.csv")


def test_a_row_whose_reason_says_why_it_has_no_loss_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    rows = [f"{n},{d},{loss}," for n, d, loss in zip(*GOOD.values(), strict=True)]
    path.write_text("\n".join(["n_params,n_tokens,loss,reason", *rows, "3e9,1e9,,step 7: the loss is nan"]))
    assert len(csv_runs(path)) == len(rows)
    path.write_text("\n".join(["n_params,n_tokens,loss,reason", *rows, "3e9,1e9,,"]))
    with pytest.raises(DataError, match="line 6: loss='': not a number"):
        csv_runs(path)
    path.write_text("\n".join(["n_params,n_tokens,loss,reason", *rows, "3e9,1e9,nan,"]))
    with pytest.raises(DataError, match="line 6: loss=nan: must be a number above 0; leave the row out"):
        csv_runs(path)


@needs_shared_data
def test_the_replication_keeps_240_of_245() -> None:
    """Besiroglu et al. 2024 keep the losses below the fifth highest, 3.446995430227908."""
    every = csv_runs(chinchilla.path())
    assert (len(every), len(without_worst(every, 5))) == (245, 240)
    assert without_worst(every, 5).loss.max() < 3.446995430227908
    assert every.n_tokens[0] == pytest.approx(2.451060e8, rel=1e-6)
    assert len(sizes(every)) <= 50


def test_not_all_runs_can_be_dropped() -> None:
    runs = read_runs(GOOD, range(2, 6), "runs.csv")
    with pytest.raises(DataError, match="drop_worst=2: of 4 runs at most 0 can go"):
        without_worst(runs, 2)
