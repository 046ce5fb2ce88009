"""Joules, from the best source this machine has: NVML's energy counter, RAPL, else watts x time as declared.

Every reader returns joules since it was made, together with how it knows (``Stamp``). A source that is absent is
absent: nothing here turns a missing sensor into zero. RAPL counts a whole package, so on a shared host it holds
other people's work too; it is therefore stamped ``estimated`` unless the machine is ours alone, which we cannot
know, and NVML's counter, which is per GPU, is stamped ``measured``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pynvml

from twobills.errors import SpecError
from twobills.meter.clock import Clock, monotonic
from twobills.usage import Stamp

RAPL_ROOT = Path("/sys/class/powercap")


class PowerReader(Protocol):
    """Joules so far, and how they are known."""

    name: str
    stamp: Stamp

    def read_j(self) -> float: ...


class DeclaredPower:
    """Watts from the catalogue x wall time x chips: a declaration, not a measurement."""

    stamp = Stamp.DECLARED

    def __init__(self, watts_per_chip: float, n_chips: int, clock: Clock = monotonic, age_s: float = 0.0) -> None:
        self.name = f"declared {watts_per_chip:g} W per chip"
        self._watts = watts_per_chip * n_chips
        self._clock = clock
        self._start_s = clock() - age_s

    def read_j(self) -> float:
        """Joules since ``age_s`` before this reader was made: a declaration holds for the past too."""
        return (self._clock() - self._start_s) * self._watts


class NvmlPower:
    """NVML's total energy counter (millijoules since the driver loaded), summed over whole GPUs.

    GPUs are named by UUID, as their indices differ from a framework's where CUDA_VISIBLE_DEVICES is set.
    """

    name = "NVML energy counter"
    stamp = Stamp.MEASURED

    def __init__(self, uuids: Sequence[str]) -> None:
        self._handles = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
        self._start_mj = self._total_mj()

    def _total_mj(self) -> int:
        return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in self._handles)

    def read_j(self) -> float:
        """Joules since this reader was made."""
        return (self._total_mj() - self._start_mj) / 1e3


class RaplPower:
    """Intel's and AMD's package energy counters (microjoules, wrapping), summed over packages."""

    name = "RAPL package counters"
    stamp = Stamp.ESTIMATED

    def __init__(self, zones: Sequence[Path]) -> None:
        self._zones = list(zones)
        self._wrap_uj = [int((zone / "max_energy_range_uj").read_text()) for zone in self._zones]
        self._last_uj = [self._raw_uj(zone) for zone in self._zones]
        self._joules = 0.0

    @staticmethod
    def _raw_uj(zone: Path) -> int:
        return int((zone / "energy_uj").read_text())

    def read_j(self) -> float:
        """Joules since this reader was made; call it at least once per wrap (about an hour at full load)."""
        for i, zone in enumerate(self._zones):
            now = self._raw_uj(zone)
            self._joules += ((now - self._last_uj[i]) % self._wrap_uj[i]) / 1e6
            self._last_uj[i] = now
        return self._joules


def rapl_zones(root: Path = RAPL_ROOT) -> list[Path]:
    """Package-level RAPL zones whose counter this user may read; a whole-platform zone would count them again."""
    zones = []
    for zone in sorted(root.glob("*-rapl:*")):
        try:
            is_package = (zone / "name").read_text().startswith("package-")
            (zone / "energy_uj").read_text()
        except OSError:
            continue
        if is_package:
            zones.append(zone)
    return zones


def nvml_energy_gpus() -> list[str]:
    """UUIDs of GPUs that have an energy counter; empty without a driver."""
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles if _has_energy_counter(handle)]
    except pynvml.NVMLError:
        return []


def power_counters() -> list[str]:
    """The hardware counters that exist here and can be read, in words; empty if there are none."""
    counters: list[tuple[str, Callable[[], bool]]] = [
        (NvmlPower.name, lambda: bool(nvml_energy_gpus())),
        (RaplPower.name, lambda: bool(rapl_zones())),
    ]
    return [name for name, present in counters if present()]


def best_reader(
    *,
    gpu_uuids: Sequence[str],
    watts_per_chip: float | None,
    n_chips: int,
    n_hosts: int = 1,
    age_s: float = 0.0,
) -> PowerReader:
    """The best source for this device: its own counter, else the declaration.

    ``gpu_uuids`` are the GPUs that do the work, none on a CPU. A slice of a GPU (MIG) has no counter of its own.
    Counters of other hosts cannot be read. A declaration also holds for the ``age_s`` seconds before; a counter
    knows nothing of them.
    Raises SpecError where there is neither a counter nor a declaration.
    """
    if gpu_uuids and set(gpu_uuids) <= set(nvml_energy_gpus()):
        return NvmlPower(gpu_uuids)
    if not gpu_uuids and n_hosts == 1 and (zones := rapl_zones()):
        return RaplPower(zones)
    if watts_per_chip is None:
        raise SpecError("watts: no power counter can be read here and none are declared; add watts to the chip's row")
    return DeclaredPower(watts_per_chip, n_chips, age_s=age_s)


def _has_energy_counter(handle: Any) -> bool:
    try:
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return False
    return True
