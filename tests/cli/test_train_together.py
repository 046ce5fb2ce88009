"""``twobills train`` under ``torchrun``: two processes, one killed in the middle, and one process that goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs PyTorch, the extra [run]")

ROOT = Path(__file__).parents[2]
N_STEPS = 150
CONFIG = f"""
out = "model"
data = "text.txt"
steps = {N_STEPS}
batch_size = 4
seq_len = 32
vocab_size = 320
checkpoint_every_s = 0.1
[model]
n_layers = 1
d_model = 32
n_heads = 1
n_kv_heads = 1
d_ff = 64
[training]
parallel = "ddp"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("".join(f"{i} and {i + 1} make {2 * i + 1}.\n" for i in range(4000)))
    (tmp_path / "train.toml").write_text(CONFIG)
    return tmp_path


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    return subprocess.Popen(
        [sys.executable, "-m", *command, "train", "train.toml", "--ledger", "ledger.sqlite", "--json", "--resume"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(folder: Path) -> list[dict[str, float]]:
    file = folder / "model.run" / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def until_it_trains(folder: Path, launcher: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 90
    while len(rows(folder)) < 3 or not [*(folder / "model.run" / "checkpoints").glob("step-*")]:
        assert time.monotonic() < end
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.02)


def children(pid: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            yield int(stat.parent.name)


def rank(pid: int) -> str:
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next(entry[5:].decode() for entry in environment if entry.startswith(b"RANK="))


@pytest.mark.slow  # half a minute; a group without the command line is killed in jobs/training/test_processes.py
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds a process of the group in /proc")
def test_a_killed_process_is_one_line_and_another_number_goes_on(folder: Path) -> None:
    launcher = start(folder, "torch.distributed.run", "--nproc-per-node", "2", "-m", "twobills")
    until_it_trains(folder, launcher)
    os.kill(next(pid for pid in children(launcher.pid) if rank(pid) == "1"), signal.SIGKILL)
    out, err = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert out == ""
    ours = [line for line in err.splitlines() if line.startswith("twobills: ")]
    assert ours == ["twobills: process 1 of 2 died, so all end; --resume goes on from the newest checkpoint"]

    alone = start(folder, "twobills")
    out, err = alone.communicate(timeout=100)
    assert alone.returncode == 0, err
    document = json.loads(out)
    assert document["training"]["n_steps"] == N_STEPS
    assert [row["step"] for row in rows(folder)] == [*range(1, N_STEPS + 1)]
    assert rows(folder)[-1]["loss"] < rows(folder)[0]["loss"] - 1
    assert document["bills"]["training"]["measured"]["phases"]["lost"]["chip_s"] > 0
    assert (folder / "model" / "model.safetensors").exists()


def test_a_mistake_is_told_once(folder: Path) -> None:
    with (folder / "train.toml").open("a") as config:
        config.write("accumulate = 3\n")
    launcher = start(folder, "torch.distributed.run", "--nproc-per-node", "2", "-m", "twobills")
    out, err = launcher.communicate(timeout=100)
    assert launcher.returncode == 1
    assert out == ""
    ours = [line for line in err.splitlines() if line.startswith("twobills: ")]
    assert ours == ["twobills: batch_size=4: fewer sequences than 2 processes x accumulate=3 need; each must have one"]
