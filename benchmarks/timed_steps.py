"""Training steps timed alike for ours and the peers, and what matrix products reach in the same process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

LAYERS, WIDTH, HEADS, CONTEXT, VOCABULARY, ROWS = 6, 384, 6, 256, 256, 32
"""The 10.7M-parameter shape of the prototypes, and sequences of a step."""

LARGE = (2048, 2048, 2048)
"""The limit: a large square product."""
OF_THE_STEP = ((2048, 384, 2048), (2048, 384, 1152), (2048, 1024, 384), (2048, 384, 384))
"""(tokens, inputs, outputs) of the step's own products at their best: hot, in the layout that suits them."""


def batches(path: Path) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Windows of the data at random places, by step."""
    data = np.load(path, mmap_mode="r")

    def batch(step: int) -> tuple[Tensor, Tensor]:
        starts = np.random.default_rng((0, step)).integers(len(data) - CONTEXT - 1, size=ROWS)
        block = torch.from_numpy(np.stack([data[s : s + CONTEXT + 1] for s in starts]).astype(np.int64))
        return block[:, :-1].contiguous(), block[:, 1:].contiguous()

    return batch


def timed(step: Callable[[int], float], n_threads: int, n_steps: int) -> dict[str, Any]:
    """Seconds of each of ``n_steps`` after two of warm-up, with the limits before and after."""
    clock = clock_for(n_threads)
    found = [{str(d): limits(d, clock) for d in (torch.bfloat16, torch.float32)}]
    losses, seconds = [step(i) for i in range(2)], []
    for i in range(2, 2 + n_steps):
        start_s = clock()
        losses.append(step(i))
        seconds.append(clock() - start_s)
    found.append({str(d): limits(d, clock) for d in (torch.bfloat16, torch.float32)})
    best = {d: {name: max(f[d][name] for f in found) for name in found[0][d]} for d in found[0]}
    return {"seconds": seconds, "limits_flops_per_s": best, "first_loss": losses[0], "last_loss": losses[-1]}


def limits(dtype: torch.dtype, clock: Callable[[], float], repeats: int = 8) -> dict[str, float]:
    """FLOP/s of a large square product, and the best of the step's own shapes."""
    shapes = {"large": (LARGE,), "of_the_step": OF_THE_STEP}
    return {name: max(_rate(shape, dtype, clock, repeats) for shape in group) for name, group in shapes.items()}


def _rate(shape: tuple[int, int, int], dtype: torch.dtype, clock: Callable[[], float], repeats: int) -> float:
    n, k, m = shape
    x, weight = torch.randn(n, k).to(dtype), torch.randn(m, k).to(dtype)
    out = torch.empty(n, m, dtype=dtype)
    calls = max(1, int(4e9 / (2 * n * k * m)))
    best_s = float("inf")
    for _ in range(repeats):
        start_s = clock()
        for _ in range(calls):
            torch.mm(x, weight.t(), out=out)
        best_s = min(best_s, (clock() - start_s) / calls)
    return 2 * n * k * m / best_s


def clock_for(n_threads: int) -> Callable[[], float]:
    """CPU seconds of one thread, which other processes hardly touch; wall seconds of several."""
    return time.process_time if n_threads == 1 else time.perf_counter
