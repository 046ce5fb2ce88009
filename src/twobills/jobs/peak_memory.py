"""The most memory that training took, read and not forecast: a GPU's from PyTorch's allocator, a CPU's from the kernel.

On a CPU it is by how much the process's resident memory has grown since the watch began, before the network was made.
A process that keeps what it frees (``jobs.allocator``) never gives any back, so the growth is the peak; what it had
free before and used again is missing. Elsewhere nothing is read.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from twobills.jobs.allocator import keep_memory
from twobills.jobs.device import Device

STATM = Path("/proc/self/statm")


class PeakMemory:
    """Watches from now on."""

    def __init__(self, device: Device) -> None:
        self._device = device
        if device.on_gpu:
            torch.cuda.reset_peak_memory_stats(device.torch_device)
            self._before: int | None = torch.cuda.memory_allocated(device.torch_device)
        else:
            self._before = resident_bytes() if keep_memory() else None

    def read(self) -> int | None:
        """Bytes at the peak since the watch began, above what there was; None where they cannot be read."""
        if self._before is None:
            return None
        if self._device.on_gpu:
            return torch.cuda.max_memory_allocated(self._device.torch_device) - self._before
        now = resident_bytes()
        return None if now is None else now - self._before


def resident_bytes(statm: Path = STATM) -> int | None:
    """Memory of this process that is in RAM; None where the kernel does not say."""
    try:
        return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
