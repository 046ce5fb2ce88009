"""The device that the jobs run on: which one, how many chips, how much memory."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from twobills.errors import RequestError
from twobills.specs.dtype import DType

CGROUP = Path("/sys/fs/cgroup")
TORCH_DTYPES: Mapping[DType, torch.dtype] = {
    DType.FP32: torch.float32,
    DType.BF16: torch.bfloat16,
    DType.FP16: torch.float16,
}


class Device(NamedTuple):
    """What runs the job. On a CPU ``n_chips`` is the number of cores used."""

    torch_device: torch.device
    name: str
    n_chips: int
    memory_bytes: float
    gpu_uuids: tuple[str, ...] = ()
    """The GPUs in use, by NVML's name; none on a CPU."""

    @property
    def on_gpu(self) -> bool:
        """Whether it is an accelerator."""
        return self.torch_device.type == "cuda"


def pick_device(n_cores: int | None = None) -> Device:
    """The first GPU, else ``n_cores`` of the cores that this process may use, or all of them."""
    if torch.cuda.is_available():
        return _gpu(0)
    cores = min(usable_cores(), n_cores or usable_cores())
    torch.set_num_threads(cores)
    return Device(torch.device("cpu"), cpu_name(), cores, usable_memory_bytes())


def device_of_process(local_rank: int, n_local: int) -> Device:
    """The device of one of ``n_local`` processes of this machine: a GPU each, else an equal share of the cores.

    Raises RequestError if there are fewer GPUs than processes.
    """
    if n_local == 1:
        return pick_device()
    if torch.cuda.is_available():
        if (n_gpus := torch.cuda.device_count()) < n_local:
            raise RequestError(
                f"{n_local} processes for {n_gpus} GPUs: start at most one for each with --nproc-per-node, "
                "or set CUDA_VISIBLE_DEVICES= to use the CPU"
            )
        return _gpu(local_rank)
    cores = max(1, usable_cores() // n_local)
    torch.set_num_threads(cores)
    return Device(torch.device("cpu"), cpu_name(), cores, usable_memory_bytes() / n_local)


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Cores that this process may use: its affinity, and no more than its container's share."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    return min(cores, math.ceil(int(quota) / int(period))) if quota.isdigit() and period.isdigit() else cores


def usable_memory_bytes(cgroup: Path = CGROUP) -> float:
    """Memory that this process may use: the machine's, and no more than its container's share."""
    physical = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limit = _read(cgroup / "memory.max")
    return min(physical, float(limit)) if limit.isdigit() else physical


def cpu_name() -> str:
    """The processor's own name, as the kernel reports it."""
    lines = _read(Path("/proc/cpuinfo")).splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")


def synchronise(device: Device) -> None:
    """Waits until the device has done what it was given; a CPU always has."""
    if device.on_gpu:
        torch.cuda.synchronize(device.torch_device)


def _gpu(index: int) -> Device:
    properties = torch.cuda.get_device_properties(index)
    uuids = (f"GPU-{properties.uuid}",)
    return Device(torch.device("cuda", index), properties.name, 1, float(properties.total_memory), uuids)


def _read(path: Path) -> str:
    """A kernel file's text, empty if there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
