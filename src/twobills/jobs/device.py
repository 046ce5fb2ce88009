"""The device that the jobs run on, and its settings: which one, how many threads, which allocator.

On a CPU two defaults cost dearly. glibc hands large blocks back to the kernel after every free, and a training step
pays for mapping them again. GNU OpenMP's threads spin at every barrier, and on a machine that others use too the
spinning thread keeps the other one from its core: calls of 0.05 ms were seen to take 8 ms. Environment variables mend
both, but only if they are set before the process starts; so a job's process replaces itself once with them set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import NamedTuple

import torch

from twobills.specs.dtype import DType

RUNTIME_SETTINGS: Mapping[str, str] = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 28),
    "GOMP_SPINCOUNT": "2000",
}
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

    @property
    def on_gpu(self) -> bool:
        """Whether it is an accelerator."""
        return self.torch_device.type == "cuda"


def pick_device() -> Device:
    """The first GPU, else all cores that this process may use."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Device(torch.device("cuda", 0), properties.name, 1, float(properties.total_memory))
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Device(torch.device("cpu"), cpu_name(), cores, float(memory))


def cpu_name() -> str:
    """The processor's own name, as the kernel reports it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "CPU"


def synchronise(device: Device) -> None:
    """Waits until the device has done what it was given; a CPU always has."""
    if device.on_gpu:
        torch.cuda.synchronize(device.torch_device)


def restart_with_runtime_settings(environment: MutableMapping[str, str] | None = None) -> None:
    """Replaces this process by itself with the settings above, those the user chose kept; nothing the second time.

    Only on Linux with a CPU: elsewhere the variables mean nothing.
    """
    environment = os.environ if environment is None else environment
    missing = {key: value for key, value in RUNTIME_SETTINGS.items() if key not in environment}
    if sys.platform == "linux" and missing and not torch.cuda.is_available():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**environment, **missing})
