"""The device that the jobs run on: which one, how many chips, how much memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

import torch

from twobills.specs.dtype import DType

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
