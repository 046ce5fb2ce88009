"""Metrics: every step once, whatever happens; other watchers only where their packages are."""

from __future__ import annotations

import json
import math
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from twobills.errors import MissingExtraError, TwobillsError
from twobills.flows.watching import CURVE_POINTS, MetricsFile, TensorBoard, Trackio, curve, read_rows


def row(step: int, **more: float) -> dict[str, float]:
    return {"step": step, "loss": 1.0 / step, "tokens": 10 * step, "seconds": 0.1 * step, **more}


def written(path: Path, *steps: int, n_done: int = 0) -> None:
    file = MetricsFile(path, n_done=n_done)
    for step in steps:
        file.watch(row(step))
    file.close()


def test_a_resume_cuts_back_to_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, *range(1, 10))
    with path.open("a") as file:
        file.write('{"step": 10, "lo')
    written(path, *range(6, 12), n_done=5)
    assert [of["step"] for of in read_rows(path)] == [*range(1, 12)]


def test_a_new_run_begins_with_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 1, 2, 3)
    written(path, 1)
    assert [of["step"] for of in read_rows(path)] == [1]


def test_a_line_is_there_before_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, n_done=0)
    file.watch(row(1, grad_norm=math.nan))
    assert json.loads(path.read_text())["grad_norm"] is None
    file.close()


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    file = MetricsFile.__new__(MetricsFile)
    file._path, file._file = tmp_path / "metrics.jsonl", Path("/dev/full").open("w", buffering=1)  # noqa: SIM115
    with pytest.raises(TwobillsError, match=r"metrics\.jsonl: cannot be written \(No space left on device\)"):
        file.watch(row(1))
    file.close()


@pytest.mark.parametrize("n", [1, CURVE_POINTS, CURVE_POINTS + 1, 1000])
def test_the_curve_is_short_and_loses_nothing(tmp_path: Path, n: int) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, *range(1, n + 1))
    points = curve(path)
    assert len(points) <= CURVE_POINTS
    assert points[-1]["step"] == n
    assert points[-1]["n_tokens"] == 10 * n
    if n <= CURVE_POINTS:
        assert [point["loss"] for point in points] == [1.0 / step for step in range(1, n + 1)]


@pytest.mark.parametrize("package", ["tensorboard", "trackio"])
def test_a_missing_package_is_one_line(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (package, "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingExtraError, match=rf"{package} is missing: pip install 'twobills\[{package}\]'"
    ) as raised:
        TensorBoard(tmp_path) if package == "tensorboard" else Trackio("run", {})
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_gets_every_number(tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoard(tmp_path / "board")
    for step in (1, 2):
        board.watch(row(step, grad_norm=math.nan))
    board.close()
    events = reading.EventAccumulator(str(tmp_path / "board")).Reload()
    assert [(of.step, of.value) for of in events.Scalars("loss")] == [(1, 1.0), (2, 0.5)]
    assert "grad_norm" not in events.Tags()["scalars"]


@pytest.mark.filterwarnings("ignore")
def test_trackio_gets_every_number_and_stdout_stays_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio")
    for steps in ((1, 2), (3,)):  # the second goes on with the first
        watcher = Trackio("run-1", {"steps": "3"})
        for step in steps:
            watcher.watch(row(step))
        watcher.close()
    with closing(sqlite3.connect(tmp_path / "twobills.db")) as database:
        kept = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    assert [(name, step, json.loads(metrics)["tokens"]) for name, step, metrics in kept] == [
        ("run-1", step, 10.0 * step) for step in (1, 2, 3)
    ]
    assert not capfd.readouterr().out
