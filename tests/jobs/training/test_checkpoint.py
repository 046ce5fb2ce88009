"""A checkpoint is there whole or not at all, and what is read back is what was written."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from twobills.errors import CheckpointError
from twobills.jobs.training.checkpoint import Checkpoints, check_identity, load

IDENTITY = {"model": "d8", "tokenizer": "sha256:1"}


def tensors(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "n_updates": torch.tensor(float(seed)),
        "master.a": torch.randn(300, 40, generator=generator),
        "exp_avg.a": torch.randn(300, 40, generator=generator),
    }


def saved(folder: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.save(step, tensors(step), identity=IDENTITY, notes={"elapsed_s": 0.1 * step})
    return checkpoints


def never(text: str) -> None:
    raise AssertionError(text)


def test_what_is_read_back_is_what_was_written(tmp_path: Path) -> None:
    found = saved(tmp_path, 7).newest(never)
    assert found is not None
    assert (found.step, found.notes["elapsed_s"]) == (7, 0.1 * 7)
    flat = torch.zeros(2 * 300 * 40)
    into = {
        "n_updates": torch.zeros(()),
        "master.a": flat[: 300 * 40].view(300, 40),
        "exp_avg.a": flat[300 * 40 :].view(300, 40),
    }
    load(found, into)
    for name, tensor in tensors(7).items():
        assert torch.equal(into[name], tensor)
    assert torch.equal(flat[: 300 * 40], tensors(7)["master.a"].flatten()), "views are copied into, not replaced"


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    assert saved(tmp_path, 1, 5, 20, 100).steps() == [100, 20]
    assert {path.name for path in tmp_path.iterdir()} == {"step-000000100", "step-000000020"}


def test_nothing_is_there_before_the_first(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none").newest(never) is None


@pytest.mark.parametrize("file", ["__0_0.distcp", ".metadata", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_one_is_named_and_the_one_before_it_is_used(tmp_path: Path, file: str, damage: str) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    path = tmp_path / "step-000000002" / file
    content = path.read_bytes()
    middle = len(content) // 2
    if damage == "flip" and file == "state.json":
        content = content.replace(b"crc32", b"crc33", 1)
    elif damage == "flip":
        content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes(content[:middle] if damage == "cut" else content)
    if damage == "gone":
        path.unlink()
    said: list[str] = []
    found = checkpoints.newest(said.append)
    assert found is not None
    assert found.step == 1
    (line,) = said
    assert str(path.parent) in line
    assert file in line
    assert "\n" not in line


def test_if_none_is_whole_that_is_an_error_and_nothing_is_touched(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    for step in (1, 2):
        (tmp_path / f"step-00000000{step}" / "__0_0.distcp").write_bytes(b"")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match="no checkpoint is whole; begin again with --restart"):
        checkpoints.newest(lambda _: None)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_damaged_one_is_replaced_when_its_step_comes_again(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    (tmp_path / "step-000000002" / "__0_0.distcp").write_bytes(b"")
    checkpoints.save(2, tensors(2), identity=IDENTITY, notes={})
    found = checkpoints.newest(never)
    assert found is not None
    assert found.step == 2


def test_another_network_is_refused_by_name(tmp_path: Path) -> None:
    found = saved(tmp_path, 3).newest(never)
    assert found is not None
    mine = {**tensors(), "master.a": torch.zeros(300, 41)}
    with pytest.raises(CheckpointError, match=r"master\.a is \(300, 40\) there and \(300, 41\) here"):
        load(found, mine)
    with pytest.raises(CheckpointError, match=r"master\.b is absent there and \(2,\) here"):
        load(found, {**tensors(), "master.b": torch.zeros(2)})
    assert torch.equal(mine["master.a"], torch.zeros(300, 41))


def test_another_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    found = saved(tmp_path, 3).newest(never)
    assert found is not None
    check_identity(found, IDENTITY)
    with pytest.raises(CheckpointError, match="its tokenizer is sha256:1, this run's is sha256:2; nothing was changed"):
        check_identity(found, {**IDENTITY, "tokenizer": "sha256:2"})


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 50 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_is_full_is_one_line_and_the_one_before_is_kept(tmp_path: Path, small_disk: None) -> None:
    del small_disk
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"a": torch.zeros(10)}, identity=IDENTITY, notes={})
    with pytest.raises(
        CheckpointError, match=r"step 2 cannot be written \(File too large\); that of step 1 is kept"
    ) as e:
        checkpoints.save(2, tensors(2), identity=IDENTITY, notes={})
    assert "\n" not in str(e.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


KILLED = """
import os, sys
from pathlib import Path
import torch
from twobills.jobs.training import checkpoint
from twobills.jobs.training.checkpoint import Checkpoints
folder, moment = Path(sys.argv[1]), sys.argv[2]
module, _, name = moment.rpartition(".")
owner = {"": checkpoint, "os": os, "Path": Path, "Checkpoints": Checkpoints}[module]
checkpoints = Checkpoints(folder)
checkpoints.save(1, {"a": torch.ones(9)}, identity={}, notes={})
checkpoints.save(2, {"a": torch.full((9,), 2.0)}, identity={}, notes={})
real = getattr(owner, name)
def killed(*args, **kwargs):
    real(*args, **kwargs)
    os.kill(os.getpid(), 9)
setattr(owner, name, killed)
checkpoints.save(3, {"a": torch.full((9,), 3.0)}, identity={}, notes={})
"""


@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("Path.mkdir", 2),
        ("_write_tensors", 2),
        ("_write_state", 2),
        ("Checkpoints._remove_leftovers", 2),
        ("Checkpoints._put_in_place", 3),
        ("Checkpoints._retire", 3),
    ],
)
def test_killed_at_any_moment_leaves_a_whole_one(tmp_path: Path, moment: str, left: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), moment], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    checkpoints = Checkpoints(tmp_path)
    found = checkpoints.newest(never)
    assert found is not None
    assert found.step == left
    into = {"a": torch.zeros(9)}
    load(found, into)
    assert into["a"].eq(left).all()
    checkpoints.save(4, into, identity={}, notes={})
    assert all(path.name.startswith("step-") for path in tmp_path.iterdir()), "what the kill left is cleared away"


def test_the_state_says_what_it_is_of(tmp_path: Path) -> None:
    saved(tmp_path, 3)
    state = json.loads((tmp_path / "step-000000003" / "state.json").read_text().splitlines()[0])
    assert state["identity"] == IDENTITY
    assert (state["step"], state["n_processes"]) == (3, 1)
