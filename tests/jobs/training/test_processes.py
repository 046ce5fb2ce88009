from __future__ import annotations

import os
import signal

import pytest

from tests.jobs.training import group
from twobills.errors import GroupError, RequestError
from twobills.jobs.device import usable_cores
from twobills.jobs.training.processes import Seat, joined, seat_from

pytestmark = pytest.mark.timeout(300)  # half a dozen processes load PyTorch, on cores that others may use
SEAT = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


def test_the_launcher_gives_the_seat() -> None:
    assert seat_from(SEAT) == Seat(rank=1, n=4, local_rank=1, n_local=2)
    assert seat_from({}) == Seat(rank=0, n=1, local_rank=0, n_local=1)


@pytest.mark.parametrize("name", list(SEAT))
def test_a_seat_that_is_no_seat_is_one_line(name: str) -> None:
    with pytest.raises(RequestError, match=f"{name}='x': must be a number; start the processes by torchrun"):
        seat_from({**SEAT, name: "x"})
    with pytest.raises(RequestError, match=name):
        seat_from({key: value for key, value in SEAT.items() if key != name})


def test_a_process_alone_talks_to_nobody() -> None:
    with joined() as processes:
        assert processes.first
        assert processes.decided_by_first(True)
        assert processes.together.n_chips == usable_cores()
        processes.barrier()
    with pytest.raises(ValueError, match="its own"), joined():
        raise ValueError("its own")


def test_a_group_that_does_not_come_together_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    seat = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for key, value in {**seat, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(key, value)
    told = "process 1 of 2: the group did not come together in 1 s"
    with pytest.raises(GroupError, match=told) as error, joined(join_timeout_s=1):
        pass
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("number", "what"),
    [(signal.SIGKILL, "process 1 of 3 died"), (signal.SIGSTOP, "process 1 of 3 did not answer within 10 s")],
    ids=["killed", "hanging"],
)
def test_a_missing_process_is_told_in_one_line_and_all_end(number: signal.Signals, what: str) -> None:
    processes = group.start(3, "for ever", "10")
    try:
        assert processes[0].stdout
        assert processes[0].stdout.readline() == "begun\n"
        os.kill(processes[1].pid, number)
        ended = [processes[i].communicate(timeout=60) for i in (0, 2)]
        assert [processes[i].returncode for i in (0, 2)] == [1, 1]
        told = "".join(err for _, err in ended)
        assert told == f"{what}, so all end; --resume goes on from the newest checkpoint\n"
    finally:
        group.end(processes)


def test_a_process_of_its_own_error_is_told_once() -> None:
    processes = group.start(2, '[{"spec": {"batch_size": 1}}]')
    try:
        told = "".join(process.communicate(timeout=60)[1] for process in processes)
        assert told.startswith("batch_size=1: fewer sequences than 2 processes")
        assert told.count("\n") == 1
        assert [process.returncode for process in processes] == [2, 0]
    finally:
        group.end(processes)
