"""The whole of ``twobills run``, as a user starts it, on a small corpus."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.usage import Job


@contextmanager
def started(arguments: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that hears Ctrl-C even if the tests run in the background, and that is gone afterwards."""
    process = subprocess.Popen(
        arguments,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "twobills", *map(str, arguments)]


@pytest.fixture(scope="module")
def finished(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the document of one run."""
    root = tmp_path_factory.mktemp("run")
    arguments = ("run", "--data", corpus_folder, "--minutes", "0.03", "--out", root / "out", "--json")
    environment = {**os.environ, "TWOBILLS_LEDGER": str(root / "ledger.sqlite")}
    done = subprocess.run(
        command(*arguments), env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout)


def test_the_document_has_what_it_promises(finished: tuple[Path, dict[str, Any]]) -> None:
    _, document = finished
    assert document["model"]["n_params"] > 0
    assert document["quality"]["heldout_bits_per_byte"] > 0
    assert document["quality"]["gzip_bits_per_byte"] > 0
    assert [point["requests_per_day"] for point in document["life"]] == [10.0**n for n in range(3, 10)]
    assert all(point["crossover_days"] > 0 for point in document["life"])
    for bill in document["bills"].values():
        assert bill["measured"]["total_usd"] > 0
        assert bill["predicted"]["total_usd"] > 0
        for cause in ("work_usd", "speed_usd", "price_usd"):
            assert isinstance(bill["gaps"][cause], float)


def test_every_request_was_answered(finished: tuple[Path, dict[str, Any]]) -> None:
    requests = finished[1]["requests"]
    assert requests["sent"] == requests["ok"] == 300
    assert requests["failed"] == 0
    prefilled = finished[1]["bills"]["inference"]["measured"]["phases"]["prefill"]["tokens"]
    assert prefilled == requests["prompt_tokens"]


def test_frozen_means_frozen(finished: tuple[Path, dict[str, Any]]) -> None:
    root, document = finished
    model = document["model"]
    assert model["digest"] == model["digest_before_serving"] == model["digest_after_serving"]
    manifest = json.loads((root / "out" / "model" / "twobills.json").read_text())
    assert manifest["digest"] == model["digest"]


def test_gaps_add_up_and_energy_keeps_its_stamp(finished: tuple[Path, dict[str, Any]]) -> None:
    for bill in finished[1]["bills"].values():
        gaps, difference = bill["gaps"], bill["measured"]["total_usd"] - bill["predicted"]["total_usd"]
        assert gaps["work_usd"] + gaps["speed_usd"] + gaps["price_usd"] == pytest.approx(difference)
        energy = bill["measured"]["total"]["energy"]
        assert energy["stamp"] in ("measured", "estimated", "declared")
        assert energy["total_j"] == pytest.approx(energy[f"{energy['stamp']}_j"])


def test_report_and_ledger_are_there(finished: tuple[Path, dict[str, Any]]) -> None:
    root, document = finished
    report = (root / "out" / "report.html").read_text()
    assert report.lower().startswith("<!doctype html>")
    assert "<svg" in report
    ledger = Ledger(root / "ledger.sqlite")
    assert ledger.outcome(document["run_id"]) is Outcome.DONE
    assert set(ledger.planned_bills(document["run_id"])) == set(Job)
    for job, bill in ledger.measured_bills(document["run_id"]).items():
        assert bill.to_json() == document["bills"][job.value]["measured"]


def test_the_load_comes_from_held_out_text(finished: tuple[Path, dict[str, Any]], corpus_folder: Path) -> None:
    _, document = finished
    heldout = "".join((corpus_folder / name).read_text() for name in document["data"]["heldout_documents"])
    assert all(sample["prompt"] in heldout for sample in document["samples"])


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopping_halfway_keeps_the_bill(corpus_folder: Path, tmp_path: Path, stop: signal.Signals) -> None:
    path = tmp_path / "ledger.sqlite"
    arguments = ("run", "--data", corpus_folder, "--minutes", "5", "--out", tmp_path / "out")
    with started(command(*arguments), TWOBILLS_LEDGER=str(path)) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (path.exists() and _has_bill(path)):
            time.sleep(0.25)
        process.send_signal(stop)
        _, errors = process.communicate(timeout=30)
    ledger = Ledger(path)
    (run_id,) = ledger.run_ids()
    assert ledger.measured_bills(run_id)[Job.TRAINING].total_usd > 0
    assert not (tmp_path / "out" / "model").exists()
    if stop is not signal.SIGKILL:
        assert process.returncode == 130
        assert ledger.outcome(run_id) is Outcome.INTERRUPTED
        assert "Traceback" not in errors
    else:
        assert ledger.outcome(run_id) is Outcome.RUNNING


def _has_bill(path: Path) -> bool:
    ledger = Ledger(path)
    return any(ledger.measured_bills(run_id) for run_id in ledger.run_ids())
