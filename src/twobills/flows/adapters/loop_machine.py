"""What somebody else's training loop runs on: the chips of all its processes, their price and their joules.

Nothing is set and nothing is exchanged between processes: each is taken to do the same as the first, which alone
writes. On a CPU the chips are the cores that the processes of a node share; with GPUs, one for each process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import torch
import torch.distributed as dist

from twobills.errors import RequestError, SpecError
from twobills.flows.machine import chip_name
from twobills.jobs.device import Device, cpu_name, usable_cores, usable_memory_bytes
from twobills.meter.power import PowerReader, best_reader
from twobills.money.rates import Rates, at_user_price, rented
from twobills.specs import catalog
from twobills.specs.hardware import ChipSpec
from twobills.usage import Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopMachine:
    """The machine of a loop, as its first process sees it."""

    device: Device
    """``n_chips`` and ``gpu_uuids`` are those of this process's node."""
    chip: str
    """The catalogue's name, or the device's own."""
    n_chips: int
    """Of all processes."""
    n_processes: int
    rates: Rates
    power: PowerReader


class Processes:
    """How many processes train together, and which this is: as PyTorch says, else as the launcher does."""

    def __init__(self) -> None:
        started = dist.is_available() and dist.is_initialized()
        self.n = dist.get_world_size() if started else int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = dist.get_rank() if started else int(os.environ.get("RANK", "0"))
        self.n_of_node = min(self.n, int(os.environ.get("LOCAL_WORLD_SIZE", str(self.n))))

    @property
    def n_nodes(self) -> int:
        """Machines, all with as many processes."""
        return max(1, self.n // self.n_of_node)


class PowerOfOthersToo:
    """A share that is read, taken for every other share: of nodes or GPUs that this process cannot read."""

    stamp = Stamp.ESTIMATED

    def __init__(self, reader: PowerReader, n_shares: float) -> None:
        self.name = f"{reader.name}, x {n_shares:g} for what one process cannot read"
        self._reader, self._n_shares = reader, n_shares
        if reader.stamp is Stamp.DECLARED:
            self.stamp = Stamp.DECLARED

    def read_j(self) -> float:
        """Joules since this reader was made."""
        return self._n_shares * self._reader.read_j()


def find_loop_machine(
    processes: Processes,
    *,
    device: str | None = None,
    usd_per_chip_hour: float | None = None,
    watts_per_chip: float | None = None,
    n_chips: int | None = None,
) -> LoopMachine:
    """The machine, from the catalogue where the caller does not say; changes no setting of PyTorch's.

    Raises RequestError, naming what to give, for a GPU whose price or power is not known.
    """
    if n_chips is not None and n_chips < 1:
        raise RequestError(f"n_chips={n_chips}: must be at least 1")
    found = _device(device, processes)
    chip = _chip(found, priced=usd_per_chip_hour is not None)
    total = found.n_chips * processes.n_nodes
    if n_chips is not None:
        total = n_chips
    watts = chip.watts if watts_per_chip is None and chip is not None else watts_per_chip
    return LoopMachine(
        device=found,
        chip=chip.name if chip else found.name,
        n_chips=total,
        n_processes=processes.n,
        rates=_rates(chip, usd_per_chip_hour),
        power=_power(found, total, watts),
    )


def _device(name: str | None, processes: Processes) -> Device:
    """This process's device and how many like it its node uses."""
    kind = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind.partition(":")[0] != "cuda":
        return Device(torch.device("cpu"), cpu_name(), usable_cores(), usable_memory_bytes())
    mine = torch.device(kind).index if ":" in kind else torch.cuda.current_device()
    n, visible = processes.n_of_node, torch.cuda.device_count()
    ours = list(range(n)) if 1 < n <= visible else [mine or 0]
    properties = [torch.cuda.get_device_properties(i) for i in ours]
    uuids = tuple(f"GPU-{each.uuid}" for each in properties)
    return Device(torch.device("cuda", mine or 0), properties[0].name, n, float(properties[0].total_memory), uuids)


def _chip(device: Device, *, priced: bool) -> ChipSpec | None:
    try:
        return catalog.chip(chip_name(device))
    except RequestError:
        if priced:
            return None
        raise RequestError(
            f"GPU {device.name!r}: not in the catalogue; say what one costs with usd_per_chip_hour=..."
        ) from None


def _rates(chip: ChipSpec | None, usd_per_chip_hour: float | None) -> Rates:
    if usd_per_chip_hour is not None:
        return at_user_price(usd_per_chip_hour, as_of=date.today().isoformat())
    assert chip is not None
    return rented(catalog.chip_price(chip.name))


def _power(device: Device, n_chips: int, watts_per_chip: float | None) -> PowerReader:
    """Of all chips; a counter that sees only some of them is taken for the others too."""
    try:
        reader = best_reader(gpu_uuids=device.gpu_uuids, watts_per_chip=watts_per_chip, n_chips=n_chips)
    except SpecError:
        raise RequestError(
            f"{device.name}: its power can neither be read nor is it in the catalogue; give watts_per_chip=..."
        ) from None
    if reader.stamp is Stamp.DECLARED:
        return reader
    seen = _n_seen(device.gpu_uuids, device)
    return reader if n_chips == seen else PowerOfOthersToo(reader, n_chips / seen)


def _n_seen(uuids: Sequence[str], device: Device) -> int:
    """Chips that the counter counts: the GPUs it was given, or the cores of a node."""
    return len(uuids) or device.n_chips
