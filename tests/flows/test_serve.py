"""``twobills serve`` as a user starts and stops it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from openai import OpenAI

from tests.flows.conftest import LINE
from tests.models import SMALL
from twobills.flows.server_process import server_process
from twobills.jobs.data.codec import train_tokenizer
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.freeze import freeze
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.usage import Job, Phase


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frozen model that was never trained."""
    network = Decoder(SMALL).to(torch.bfloat16)
    network.initialise(torch.Generator().manual_seed(0))
    folder = tmp_path_factory.mktemp("frozen") / "model"
    freeze(network, train_tokenizer([LINE.format(i=i, j=i) for i in range(50)], 320), folder, lineage={}, bill={})
    return folder


def start(folder: Path, ledger: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "twobills", "serve", str(folder), *arguments]
    return subprocess.Popen(
        command,
        env={**os.environ, "TWOBILLS_LEDGER": str(ledger)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("stop", "status", "outcome"),
    [(signal.SIGINT, 130, Outcome.INTERRUPTED), (signal.SIGTERM, 0, Outcome.DONE)],
)
def test_the_openai_client_is_served_and_billed(
    folder: Path, tmp_path: Path, stop: signal.Signals, status: int, outcome: Outcome
) -> None:
    ledger_path = tmp_path / "ledger.sqlite"
    process = start(folder, ledger_path, "--port", "0", "--json")
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    with OpenAI(base_url=f"{ready['url']}/v1", api_key="none") as client:
        answer = client.completions.create(model="model", prompt="def f(", max_tokens=8, temperature=0)
        chunks = client.chat.completions.create(
            model="model",
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
        usages = [chunk.usage for chunk in chunks if chunk.usage]
    process.send_signal(stop)
    output, errors = process.communicate(timeout=30)
    ended = json.loads(output)
    assert process.returncode == status, errors
    assert ended["digest_before_serving"] == ended["digest_after_serving"] == ready["digest"]
    assert answer.usage is not None
    ledger = Ledger(ledger_path)
    (run_id,) = ledger.run_ids()
    assert ledger.outcome(run_id) is outcome
    used = ledger.measured_bills(run_id)[Job.INFERENCE].usage.phases
    assert used[Phase.PREFILL].tokens == answer.usage.prompt_tokens + usages[0].prompt_tokens
    assert used[Phase.DECODE].tokens == answer.usage.completion_tokens + usages[0].completion_tokens - 2
    assert used[Phase.IDLE].chip_s > 0


def test_a_port_in_use_is_one_line(folder: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = start(folder, tmp_path / "ledger.sqlite", "--port", port)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines() == [
        f"twobills: port {port} is in use; choose another with --port, or --port 0 for any free one"
    ]
    assert not output


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"rubbish"), "model.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "twobills.json").write_text('{"digest": "sha256:0"}'), "names weights sha256:0"),
    ],
)
def test_a_folder_that_is_not_whole_is_one_line(folder: Path, tmp_path: Path, spoil: object, message: str) -> None:
    spoiled = tmp_path / "spoiled"
    spoiled.mkdir()
    for file in folder.iterdir():
        (spoiled / file.name).write_bytes(file.read_bytes())
    spoil(spoiled)  # type: ignore[operator]
    _, errors = (process := start(spoiled, tmp_path / "ledger.sqlite")).communicate(timeout=60)
    assert process.returncode == 2
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_a_server_does_not_outlive_who_started_it(folder: Path, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    run_id = ledger.start("test", {})
    with server_process(folder, ledger=ledger.path, run_id=run_id, arguments=[]) as server:
        process = server._process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0
    assert Job.INFERENCE in ledger.measured_bills(run_id)
