"""``twobills laws sweep`` as a user meets it: one line for every mistake, the bill alone if asked, one JSON document.

Nothing is trained: processes are replaced by cells that end at once (``tests.swept``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.swept import Trained, swept
from twobills.cli import app
from twobills.cli.runtime import SETTINGS

QUICK = ("--budgets", "1e12,3e12", "--bootstraps", "0")


class Command:
    """Runs ``twobills laws sweep`` in this process, to the exit status."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.out, self._ledger = folder / "sweep", folder / "l.sqlite"
        self._patch, self._capture = patch, capture

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Status, stdout and stderr."""
        common = ["--out", str(self.out), "--ledger", str(self._ledger)]
        self._patch.setattr(sys, "argv", ["twobills", "laws", "sweep", *common, *words])
        with pytest.raises(SystemExit) as ended:
            app._run()
        said = self._capture.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    def refused(self, *words: str) -> str:
        """The one line of a wrong request."""
        status, out, err = self(*words)
        assert (status, out) == (2, "")
        (line,) = err.splitlines()
        return line


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)  # or the process would replace itself
    return Command(tmp_path, monkeypatch, capsys)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    return swept(monkeypatch)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--budgets", "many"), "--budgets 'many': not a quantity; write it like"),
        (("--budgets", ""), "--budgets '': not a quantity; write it like"),
        (("--budgets", "3e12,1e12"), "--budgets 3e+12,1e+12: must ascend"),
        (("--budgets", "1e7"), "--budgets 1e+07: pays for 20 steps of"),
        (("--sizes", "3"), "--sizes 3: must be between 4 and 12"),
        (("--vocab-size", "100"), "--vocab-size 100: must be between 320 and 200000"),
        (("--max-cells", "0"), "--max-cells 0: must be at least 1"),
        (("--max-usd", "-1"), "max_usd=-1.0: must be a number above 0"),
        (("--bootstraps", "1"), "--bootstraps 1: must be 0 (none) or at least 2"),
        (("--data", "/no/such/text"), "data /no/such/text: does not exist; give a file or a folder"),
    ],
)
def test_a_mistake_is_one_line_before_anything_begins(
    command: Command, trained: Trained, words: tuple[str, ...], message: str
) -> None:
    assert message in command.refused(*words)
    assert not trained.cells
    assert not command.out.exists()


def test_under_torchrun_it_says_to_start_without(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert "start it without torchrun" in command.refused()


@pytest.mark.usefixtures("trained")
def test_a_folder_of_another_sweep_is_refused(command: Command, tmp_path: Path) -> None:
    assert command(*QUICK, "--plan-only")[0] == 0
    for words, message in (
        (("--sizes", "6"), "--sizes 6: the sweep in"),
        (("--vocab-size", "400"), "--vocab-size 400: the sweep in"),
        (("--data", str(tmp_path)), "--data: the sweep in"),
    ):
        (tmp_path / "text.txt").write_text("so it goes")
        line = command.refused(*QUICK, *words)
        assert message in line
        assert line.endswith("choose another --out")


def test_the_bill_alone_is_shown_and_nothing_is_run(command: Command, trained: Trained) -> None:
    status, out, _ = command(*QUICK, "--plan-only")
    assert status == 0
    assert "10 cells" in out
    assert "Expected bill" in out
    assert not trained.cells
    assert (command.out / "expected.json").exists()
    document = json.loads(command(*QUICK, "--plan-only", "--json")[1])
    assert set(document) == {"schema", "run_id", "expected"}
    assert document["expected"]["total"]["n_cells"] == 10
    assert not trained.cells


def test_json_is_one_document_and_tables_say_the_same(command: Command, trained: Trained) -> None:
    status, out, err = command(*QUICK, "--json")
    assert status == 0
    document: dict[str, Any] = json.loads(out)
    assert {"schema", "run_id", "runs", "conventions", "expected", "measured", "cells", "curves"} <= set(document)
    assert {"prediction", "result", "fit"} <= set(document)
    assert [curve["budget_flops"] for curve in document["curves"]] == [1e12, 3e12]
    assert document["measured"]["n_cells"] == len(document["cells"]) == len(trained.cells)
    assert document["measured"]["total_usd"] == pytest.approx(sum(row["usd"] for row in document["cells"]))
    assert err.count("parameters,") == len(trained.cells), "a line for each cell as it ends"
    again = command(*QUICK)[1]
    for words in ("Expected bill", "Cells (loss", "Minimum of each curve", "laws fit"):
        assert words in again
    assert len(trained.cells) == len(document["cells"]), "nothing was run again"


def test_a_cell_that_diverges_is_a_line_and_a_row_and_ends_nothing(command: Command, trained: Trained) -> None:
    trained.diverges = lambda cell: cell.name == "c1e+12-d64-l2"
    status, out, err = command(*QUICK, "--json")
    assert status == 0
    assert err.count("diverged (step 3: the loss is nan)") == 1
    document = json.loads(out, parse_constant=pytest.fail)
    assert [row["reason"] for row in document["cells"] if row["loss"] is None] == ["step 3: the loss is nan"]
    assert "Diverged" in command(*QUICK)[1]


def test_a_limit_ends_it_with_status_3_and_one_line(command: Command, trained: Trained) -> None:
    status, _, err = command(*QUICK, "--json", "--max-cells", "3")
    assert status == 3
    assert err.splitlines()[-1].startswith("twobills: --max-cells 3: cell ")
    assert len(trained.cells) == 3
