"""The processes that train one network together, as ``torchrun`` starts them: who this one is, and how they talk.

Gloo carries what is on a CPU, NCCL what is on a GPU. Nobody waits for ever: the group has ``TIMEOUT_S`` to come
together, and as long to answer in each collective operation. When one does not, or a connection breaks, those left
call the roll; all raise the same ``GroupError``, and one of them shows it. (What process 0 prepares alone the others
await for as long as it takes; should it die, ``torchrun`` ends them.)
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from twobills.errors import GroupError, RequestError, TwobillsError
from twobills.jobs.device import Device, device_of_process, usable_cores

TIMEOUT_S = 120.0
PREPARE_TIMEOUT_S = 7 * 24 * 3600.0
"""The longest that the others wait for what process 0 prepares."""
_ROLL_CALL_S = 3.0
"""How long those left wait for one another before they say who is missing."""
_SEAT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_BROKEN = ("gloo", "nccl", "connection closed", "connection reset", "timed out", "broken pipe", "tcpstore")
_Made = TypeVar("_Made")


class Seat(NamedTuple):
    """Where the launcher put this process."""

    rank: int = 0
    n: int = 1
    local_rank: int = 0
    n_local: int = 1


class Processes:
    """The group, as one of its processes sees it; a group of one needs no launcher and never waits."""

    def __init__(self, seat: Seat, device: Device, *, timeout_s: float = TIMEOUT_S) -> None:
        self.rank, self.n = seat.rank, seat.n
        self.device = device
        """What this process computes on."""
        self._n_local, self._n_told = seat.n_local, 0
        self._members = _Members(seat, timeout_s) if seat.n > 1 else None

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def together(self) -> Device:
        """What all processes compute on, as one device: its chips are those that the meter counts. All must ask."""
        if self.n == 1:
            return self.device
        # processes that share cores have at least one thread each, so there may be more threads than cores
        chips = self.device.n_chips if self.device.on_gpu else min(self.device.n_chips, usable_cores() / self._n_local)
        found: list[tuple[Device, float]] = [(self.device, chips)] * self.n
        dist.all_gather_object(found, (self.device, chips))
        return self.device._replace(
            n_chips=round(sum(chips for _, chips in found)),
            memory_bytes=sum(device.memory_bytes for device, _ in found),
            gpu_uuids=tuple(uuid for device, _ in found for uuid in device.gpu_uuids),
        )

    def told_by_first(self, make: Callable[[], _Made]) -> _Made:
        """What ``make`` gives in process 0, in all of them."""
        if not self._members:
            return make()
        key, store = f"told/{self._n_told}", self._members.store
        self._n_told += 1
        if self.first:
            store.set(key, pickle.dumps(made := make()))  # type: ignore[arg-type]  # bytes are fine: its stub is not
            return made
        store.wait([key], timedelta(seconds=PREPARE_TIMEOUT_S))
        return pickle.loads(store.get(key))  # type: ignore[no-any-return]

    def decided_by_first(self, decision: bool) -> bool:
        """Process 0's decision, in all of them: for what depends on a clock or on dollars, between two steps."""
        if self.n == 1:
            return decision
        flag = torch.tensor([decision], dtype=torch.uint8)
        dist.broadcast(flag, 0)
        return bool(flag.item())

    def add_up(self, tensor: Tensor) -> Tensor:
        """Replaces a tensor by its sum over all processes, the same bits in each."""
        if self.n > 1:
            dist.all_reduce(tensor)
        return tensor

    def barrier(self) -> None:
        """Waits until all have come here."""
        self.add_up(torch.zeros(1))

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns what a broken group raises in the body into GroupError; an error of ours is shown by one process."""
        try:
            yield
        except GroupError:
            raise
        except BaseException as error:
            if self._members is None:
                raise
            verdict = self._members.verdict(error)
            if verdict is error:
                raise
            raise verdict from None


def seat_from(environment: Mapping[str, str]) -> Seat:
    """The seat that ``torchrun`` gave, or that of a process alone. Raises RequestError for one that cannot be."""
    if "RANK" not in environment and "WORLD_SIZE" not in environment:
        return Seat()
    for name in _SEAT:
        if not environment.get(name, "").isdigit():
            raise RequestError(f"{name}={environment.get(name)!r}: must be a number; start the processes by torchrun")
    return Seat(*(int(environment[name]) for name in _SEAT))


@contextmanager
def joined(*, timeout_s: float = TIMEOUT_S) -> Iterator[Processes]:
    """The group, while the body runs; errors are ``explained``. Raises GroupError if it does not come together."""
    seat = seat_from(os.environ)
    device = device_of_process(seat.local_rank, seat.n_local)
    if seat.n == 1:
        yield Processes(seat, device)
        return
    processes = _join(seat, device, timeout_s)
    try:
        with processes.explained():
            yield processes
            processes.barrier()
    finally:
        gc.collect()  # gloo's threads may hold the last reference to a tensor: freed after Python's end, it aborts
        _leave()


def _join(seat: Seat, device: Device, timeout_s: float) -> Processes:
    try:
        if device.on_gpu:
            torch.cuda.set_device(device.torch_device)
        backend = "cpu:gloo,cuda:nccl" if device.on_gpu else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
        processes = Processes(seat, device, timeout_s=timeout_s)
        processes.barrier()
    except (RuntimeError, ValueError) as error:
        raise GroupError(
            f"process {seat.rank} of {seat.n}: the group did not come together in {timeout_s:g} s ({_line_of(error)})"
        ) from None
    return processes


def _leave() -> None:
    """Ends the group, without waiting long for one that is broken."""
    thread = threading.Thread(target=dist.destroy_process_group, daemon=True)
    thread.start()
    thread.join(_ROLL_CALL_S)


class _Members:
    """Who is in the group, as its store knows, which under ``torchrun`` outlives every member."""

    def __init__(self, seat: Seat, timeout_s: float) -> None:
        self.store = dist.distributed_c10d._get_default_store()
        self._seat, self._timeout_s, self._host = seat, timeout_s, os.uname().nodename
        self.store.set(f"member/{seat.rank}", f"{self._host}/{os.getpid()}")

    def verdict(self, error: BaseException) -> BaseException:
        """What this process ends with instead of ``error``: the same in all, shown by one."""
        with _undisturbed():
            try:
                return self._verdict(error)
            except RuntimeError:  # the store is gone with the process that kept it
                return GroupError(f"process {self._seat.rank} of {self._seat.n}: the group is gone ({_line_of(error)})")

    def _verdict(self, error: BaseException) -> BaseException:
        mine = str(self._seat.rank)
        self.store.set(f"ending/{mine}", mine)
        broken, asked = _is_broken(error), isinstance(error, KeyboardInterrupt)
        missing = self._missing() if broken or asked else []
        spoken = self.store.compare_set("speaker", "", mine).decode() == mine
        if missing:
            return GroupError(self._tell(missing), spoken=spoken)
        if broken:
            return GroupError(_line_of(error), spoken=spoken)
        status = error.exit_status if isinstance(error, TwobillsError) else 130 if asked else 1
        return error if spoken else GroupError(_line_of(error), spoken=False, exit_status=status)

    def _missing(self) -> list[int]:
        """Those that have not said that they are ending."""
        others, end = set(range(self._seat.n)), time.monotonic() + _ROLL_CALL_S
        while others and time.monotonic() < end:
            others = {rank for rank in others if not self.store.check([f"ending/{rank}"])}
            time.sleep(0.05)
        return sorted(others)

    def _tell(self, missing: list[int]) -> str:
        dead = [rank for rank in missing if self._is_dead(rank)]
        named = dead or missing
        noun = "process" if len(named) == 1 else "processes"
        what = "died" if dead else f"did not answer within {self._timeout_s:g} s"
        return (
            f"{noun} {', '.join(map(str, named))} of {self._seat.n} {what}, so all end; "
            "--resume goes on from the newest checkpoint"
        )

    def _is_dead(self, rank: int) -> bool:
        """Whether a process of this machine is certainly gone."""
        host, _, pid = self.store.get(f"member/{rank}").decode().rpartition("/")
        if host != self._host or not Path("/proc/self").exists():
            return False
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keeps the launcher's SIGTERM and a second Ctrl-C from cutting this process's last words."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_broken(error: BaseException) -> bool:
    """Whether an error comes of talking to the others."""
    text = str(error).lower()
    return isinstance(error, RuntimeError | TwobillsError) and any(sign in text for sign in _BROKEN)


def _line_of(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
