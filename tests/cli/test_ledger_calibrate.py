"""``twobills ledger calibrate`` as a user sees it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.cli.test_cli import twobills
from tests.metered_runs import add_run
from twobills.cli.app import app
from twobills.ledger.store import Ledger

CALIBRATE = ["ledger", "calibrate"]
runner = CliRunner()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(Path(os.environ["TWOBILLS_LEDGER"]))


def test_before_and_after_are_shown(ledger: Ledger) -> None:
    run_ids = [add_run(ledger) for _ in range(4)]
    document = json.loads(runner.invoke(app, [*CALIBRATE, "--json"]).output)
    (machine,) = document["machines"]
    assert set(machine["jobs"]) == {"training", "inference"}
    for job in machine["jobs"].values():
        assert job["n_runs"] == len(job["runs"]) == 4
        assert {"median_abs_rel_error", "bias", "coverage_90"} <= job["before"].keys() & job["after"].keys()
    shown = runner.invoke(app, CALIBRATE)
    assert shown.exit_code == 0
    assert "This corrects training forecasts for 2 x cpu-core (a test's CPU) by 4 of its runs" in shown.output
    assert all(shown.output.count(run_id) == 2 for run_id in run_ids)
    assert runner.invoke(app, [*CALIBRATE, "--forget"]).output.startswith("Forgotten for 2 x cpu-core")
    listed = json.loads(runner.invoke(app, ["ledger", "list", "--json"]).output)["runs"]
    assert [row["run_id"] for row in listed] == run_ids[::-1]


@pytest.mark.parametrize("columns", [80, 120])
def test_no_figure_is_cut(ledger: Ledger, columns: int) -> None:
    for _ in range(3):
        add_run(ledger)
    done = twobills(*CALIBRATE, COLUMNS=str(columns))
    assert done.returncode == 0
    assert "…" not in done.stdout


@pytest.mark.parametrize(
    ("n_runs", "arguments", "message"),
    [
        (0, (), "holds no finished run with a plan and a meter"),
        (2, (), "2 of training and 2 of inference finished"),
        (2, ("--forget",), "no machine is calibrated"),
    ],
)
def test_what_cannot_be_done_is_one_line(ledger: Ledger, n_runs: int, arguments: tuple[str, ...], message: str) -> None:
    for _ in range(n_runs):
        add_run(ledger)
    done = twobills(*CALIBRATE, *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout
