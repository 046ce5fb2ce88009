"""The next batch on its way to a GPU while this one is learned from: cut by a thread, copied on a stream of its own."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from twobills.jobs.data.batch import Batch
from twobills.jobs.device import Device


class Batches(Protocol):
    """The batch of each step."""

    def __getitem__(self, step: int, /) -> Batch: ...


def prefetched(batches: Batches, device: Device) -> Batches:
    """The same batches, one step ahead and on the GPU; on a CPU, whose cores are all in use, as they are."""
    return Prefetched(batches, device.torch_device) if device.on_gpu else batches


class Prefetched:
    """Batches on a GPU. Asked for in order it is one ahead; any other order is right too, and slower."""

    def __init__(self, batches: Batches, device: torch.device) -> None:
        self._batches, self._device = batches, device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._coming: tuple[int, Future[Batch]] | None = None

    def __getitem__(self, step: int, /) -> Batch:
        if self._coming is None or self._coming[0] != step:
            self._coming = step, self._pool.submit(self._load, step)
        batch = self._coming[1].result()
        self._coming = step + 1, self._pool.submit(self._load, step + 1)
        now = torch.cuda.current_stream(self._device)
        now.wait_stream(self._stream)
        for tensor in batch:
            if tensor is not None:
                tensor.record_stream(now)
        return batch

    def _load(self, step: int) -> Batch:
        with torch.cuda.stream(self._stream):
            return Batch(*(self._sent(tensor) for tensor in self._batches[step]))  # type: ignore[arg-type]

    def _sent(self, tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.pin_memory().to(self._device, non_blocking=True)
