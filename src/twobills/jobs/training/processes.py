"""The processes that train one network together, as ``torchrun`` starts them: who this one is, and how they talk.

Gloo carries what is on a CPU, NCCL what is on a GPU. Nobody waits for ever: the group has ``TIMEOUT_S`` to come
together, and as long to answer in each collective operation. When one does not, or a connection breaks, those left
call the roll; all raise the same ``GroupError``, and one of them shows it. Process 0 leads: what it prepares or
measures alone the others await, for as long as it lives.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from twobills.errors import GroupError, RequestError, TwobillsError
from twobills.jobs.device import Device, device_of_process, usable_cores

TIMEOUT_S = 120.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 1e-4, 0.2
"""Between two looks for an order: at first hardly any, as the next one mostly comes at once."""
_ROLL_CALL_S = 3.0
"""How long those left wait for one another before they say who is missing."""
_ANSWER_S = 0.5
_SEAT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_BROKEN = ("gloo", "nccl", "connection closed", "connection reset", "timed out", "broken pipe", "tcpstore")


class Seat(NamedTuple):
    """Where the launcher put this process."""

    rank: int = 0
    n: int = 1
    local_rank: int = 0
    n_local: int = 1


class Processes:
    """The group, as one of its processes sees it; a group of one needs no launcher and never waits."""

    def __init__(self, seat: Seat, device: Device, members: _Members | None = None) -> None:
        self.rank, self.n = seat.rank, seat.n
        self.n_hosts = -(-seat.n // seat.n_local)
        self.device = device
        """What this process computes on."""
        self.together = _together(seat, device)
        """What all compute on, as one device: its chips are those that the meter counts."""
        self._n_orders = 0
        self._members = members

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def order(self, order: object) -> None:
        """Tells the others what to do next; only process 0 may. They need not be waiting yet."""
        if self._members:
            self._members.order(self._n_orders, order)
            self._n_orders += 1

    def next_order(self) -> Any:
        """What process 0 tells, awaited for as long as it lives. Raises GroupError when it no longer does."""
        assert self._members
        self._n_orders += 1
        return self._members.await_order(self._n_orders - 1)

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

    def dealt_by_first(self, parts: list[Tensor] | None, like: Tensor) -> Tensor:
        """The part for this process, of the ``parts`` that process 0 has, each shaped as ``like``."""
        mine = torch.empty_like(like)
        dist.scatter(mine, parts, src=0)
        return mine

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites tensors by those of process 0."""
        for tensor in tensors if self.n > 1 else ():
            dist.broadcast(tensor, 0)

    def use_cores(self, *, alone: bool) -> None:
        """Sets this process's threads, on a CPU: its share of the cores, or all while the others only wait."""
        if not self.device.on_gpu:
            torch.set_num_threads(usable_cores() if alone else self.device.n_chips)

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


def _together(seat: Seat, device: Device) -> Device:
    if seat.n == 1:
        return device
    # processes that share cores have at least one thread each, so there may be more threads than cores
    chips = device.n_chips if device.on_gpu else min(device.n_chips, usable_cores() / seat.n_local)
    found: list[tuple[Device, float]] = [(device, chips)] * seat.n
    dist.all_gather_object(found, (device, chips))
    return device._replace(
        n_chips=round(sum(chips for _, chips in found)),
        memory_bytes=sum(device.memory_bytes for device, _ in found),
        gpu_uuids=tuple(uuid for device, _ in found for uuid in device.gpu_uuids),
    )


def seat_from(environment: Mapping[str, str]) -> Seat:
    """The seat that ``torchrun`` gave, or that of a process alone. Raises RequestError for one that cannot be."""
    if "RANK" not in environment and "WORLD_SIZE" not in environment:
        return Seat()
    for name in _SEAT:
        if not environment.get(name, "").isdigit():
            raise RequestError(f"{name}={environment.get(name)!r}: must be a number; start the processes by torchrun")
    return Seat(*(int(environment[name]) for name in _SEAT))


@contextmanager
def joined(*, timeout_s: float = TIMEOUT_S, join_timeout_s: float = TIMEOUT_S) -> Iterator[Processes]:
    """The group, while the body runs; errors are ``explained``. Raises GroupError if it does not come together."""
    seat = seat_from(os.environ)
    device = device_of_process(seat.local_rank, seat.n_local)
    if seat.n == 1:
        yield Processes(seat, device)
        return
    processes = _join(seat, device, timeout_s, join_timeout_s)
    try:
        with processes.explained():
            yield processes
            if processes.first:
                processes.order(None)
            processes.barrier()
    finally:
        gc.collect()  # gloo's threads may hold the last reference to a tensor: freed after Python's end, it aborts
        _leave()


def _join(seat: Seat, device: Device, timeout_s: float, join_timeout_s: float) -> Processes:
    limit = timedelta(seconds=join_timeout_s)
    try:
        store, rank, n = next(rendezvous("env://", timeout=limit))
        store.set(f"here/{rank}", "")
        store.wait([f"here/{other}" for other in range(n)], limit)  # so that a slow start is no silence
        if device.on_gpu:
            torch.cuda.set_device(device.torch_device)
        backend = "cpu:gloo,cuda:nccl" if device.on_gpu else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=n, timeout=timedelta(seconds=timeout_s))
        return Processes(seat, device, _Members(store, seat, timeout_s))
    except (RuntimeError, ValueError) as error:
        me, reason = f"process {seat.rank} of {seat.n}", _line_of(error)
        raise GroupError(f"{me}: the group did not come together in {join_timeout_s:g} s ({reason})") from None


def _leave() -> None:
    """Ends the group, without waiting long for one that is broken."""
    thread = threading.Thread(target=dist.destroy_process_group, daemon=True)
    thread.start()
    thread.join(_ROLL_CALL_S)


class _Members:
    """Who is in the group, as its store knows, which under ``torchrun`` outlives every member."""

    def __init__(self, store: Store, seat: Seat, timeout_s: float) -> None:
        self.store = store
        self._seat, self._timeout_s, self._host = seat, timeout_s, os.uname().nodename
        self.store.set(f"member/{seat.rank}", f"{self._host}/{os.getpid()}")
        own_line = store.clone()  # type: ignore[attr-defined]  # its stub lacks it
        threading.Thread(target=self._answer, args=(own_line,), name="roll call", daemon=True).start()

    def order(self, number: int, order: object) -> None:
        self.store.set(f"order/{number}", pickle.dumps(order))  # type: ignore[arg-type]  # its stub knows no bytes
        if number > 1:  # whoever takes part in the last one has read the one before
            self.store.delete_key(f"order/{number - 2}")

    def await_order(self, number: int) -> Any:
        key, pause_s = f"order/{number}", _SHORTEST_PAUSE_S
        while not self.store.check([key]):  # waiting in the store would speak up at every timeout
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            if pause_s == _LONGEST_PAUSE_S:
                self._look_up()
        return pickle.loads(self.store.get(key))

    def _look_up(self) -> None:
        """Raises an error if process 0 is no longer there."""
        if self._first_ended_by_itself():
            raise GroupError("process 0 has ended", spoken=False, exit_status=0)
        if self.store.check(["ending/0"]) or self._is_dead(0):
            raise RuntimeError("connection closed: process 0 is gone")

    def verdict(self, error: BaseException) -> BaseException:
        """What this process ends with instead of ``error``: the same in all, shown by one."""
        with _undisturbed():
            try:
                return self._verdict(error)
            except RuntimeError:  # the store is gone with the process that kept it
                return GroupError(f"process {self._seat.rank} of {self._seat.n}: the group is gone ({_line_of(error)})")

    def _verdict(self, error: BaseException) -> BaseException:
        mine = str(self._seat.rank)
        broken, asked = _is_broken(error), isinstance(error, KeyboardInterrupt)
        self.store.set(f"ending/{mine}", "heard" if broken else "by itself")
        missing = self._call_the_roll() if broken or asked else []
        spoken = self.store.compare_set("speaker", "", mine).decode() == mine
        if missing:
            return GroupError(self._tell(missing), spoken=spoken)
        if broken:
            return GroupError(_line_of(error), spoken=spoken, exit_status=0 if self._first_ended_by_itself() else 1)
        status = error.exit_status if isinstance(error, TwobillsError) else 130 if asked else 1
        if spoken and (self._seat.rank == 0 or not isinstance(error, TwobillsError)):
            return error
        return GroupError(f"process {mine} of {self._seat.n}: {_line_of(error)}", spoken=spoken, exit_status=status)

    def _first_ended_by_itself(self) -> bool:
        return self.store.check(["ending/0"]) and self.store.get("ending/0") == b"by itself"

    def _call_the_roll(self) -> list[int]:
        """Those that do not answer. Those do that still wait for one that is gone, or for this one."""
        self.store.set("roll call", "")
        others, end = set(range(self._seat.n)), time.monotonic() + _ROLL_CALL_S
        while others and time.monotonic() < end:
            others = {rank for rank in others if not self.store.check([f"present/{rank}"])}
            time.sleep(0.05)
        return sorted(others)

    def _answer(self, store: Store) -> None:
        """Answers the roll call, from a thread of its own: the process may be caught in a collective operation."""
        with suppress(RuntimeError):  # the store is gone: nobody calls any more
            while not store.check(["roll call"]):
                time.sleep(_ANSWER_S)
            store.set(f"present/{self._seat.rank}", "")

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
