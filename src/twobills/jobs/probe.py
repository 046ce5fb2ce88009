"""What this machine achieves, by timing single operations: products per number format, batched products, streams.

Never times a training or an engine step: a plan built on this is a forecast, not an echo. Each point is the best of
several repeats after a warm-up, so that what other processes do to it shows in the run and not in the plan; the whole
takes a few seconds. Sizes are those that small and middle-sized models meet; between them the curve is interpolated.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from twobills.jobs.device import TORCH_DTYPES, Device, synchronise
from twobills.meter.clock import Clock, monotonic
from twobills.specs.dtype import DType
from twobills.specs.efficiency import Curve, Efficiency, OpKind, RateSource

MATMUL_SHAPES = (
    (1, 256, 256),
    (16, 256, 256),
    (256, 256, 256),
    (2048, 256, 256),
    (2048, 256, 1024),
    (2048, 2048, 2048),
)
"""(tokens, inputs, outputs) of the products that are timed."""
ATTENTION_SHAPES = ((4, 32, 64), (4, 256, 64), (24, 256, 64), (96, 256, 64))
"""(batch x heads, sequence, head size)."""
STREAM_ELEMENTS = (2**8, 2**15, 2**18, 2**21, 2**23, 2**25)
SOFTMAX_SHAPES = ((8, 256), (4 * 256, 256), (96 * 256, 256))
TINY = 16
LOG_SIGMA = 0.20
"""How far a first forecast on a measured machine is expected to miss; an assumption until runs calibrate it."""
_REPEATS, _MIN_S = 5, 0.02


def measure_efficiency(device: Device, clock: Clock = monotonic) -> Efficiency:
    """Times this machine's operations; rates of the whole device with the threads it is set to."""
    probe = _Probe(device, clock)
    return Efficiency(
        flops_per_s={dtype: probe.product_curves(dtype) for dtype in (DType.FP32, DType.BF16)},
        bytes_per_s={OpKind.ELEMENTWISE: probe.stream_curve(), OpKind.SOFTMAX: probe.softmax_curve()},
        call_overhead_s=probe.call_overhead_s(),
        log_sigma=LOG_SIGMA,
        source=RateSource.MEASURED,
    )


def fastest_dtype(efficiency: Efficiency) -> DType:
    """The format that is fastest at the median of the larger products: CPUs without bf16 units are faster in fp32.

    The median, as a busy machine may starve any one of the timings, and the format decides a run's every bit.
    """
    curves = {dtype: curves[OpKind.MATMUL] for dtype, curves in efficiency.flops_per_s.items()}
    return max(
        curves, key=lambda dtype: statistics.median(rate for _, rate in curves[dtype][len(curves[dtype]) // 2 :])
    )


class _Probe:
    def __init__(self, device: Device, clock: Clock) -> None:
        self._device, self._clock = device, clock
        self._generator = torch.Generator(device.torch_device).manual_seed(0)

    def product_curves(self, dtype: DType) -> dict[OpKind, Curve]:
        return {
            OpKind.MATMUL: self._curve(self._matmul_point(n, k, m, dtype) for n, k, m in MATMUL_SHAPES),
            OpKind.ATTENTION: self._curve(self._attention_point(b, t, d, dtype) for b, t, d in ATTENTION_SHAPES),
        }

    def stream_curve(self) -> Curve:
        return self._curve(self._stream_point(n) for n in STREAM_ELEMENTS)

    def softmax_curve(self) -> Curve:
        return self._curve(self._softmax_point(*shape) for shape in SOFTMAX_SHAPES)

    def call_overhead_s(self) -> float:
        """The mean of calls as a network makes them: a view, an in-place and an out-of-place one."""
        x = self._random(TINY, TINY, dtype=DType.BF16)
        calls: tuple[Callable[[], object], ...] = (
            lambda: x.view(-1),
            lambda: x.mul_(1.0),
            lambda: torch.add(x, x),
        )
        return statistics.mean(self._seconds(call) for call in calls)

    def _matmul_point(self, n: int, k: int, m: int, dtype: DType) -> tuple[float, float]:
        x, weight = self._random(n, k, dtype=dtype), self._random(m, k, dtype=dtype)
        flops = 2.0 * n * k * m
        return flops, flops / self._seconds(lambda: torch.nn.functional.linear(x, weight))

    def _attention_point(self, batch: int, seq_len: int, d_head: int, dtype: DType) -> tuple[float, float]:
        q, k = (self._random(batch, seq_len, d_head, dtype=dtype) for _ in range(2))
        flops = 2.0 * batch * seq_len * seq_len * d_head
        return flops, flops / self._seconds(lambda: torch.bmm(q, k.transpose(1, 2)))

    def _stream_point(self, n: int) -> tuple[float, float]:
        x, y = (self._random(n, dtype=DType.BF16) for _ in range(2))
        moved = 3.0 * n * DType.BF16.bytes
        return moved, moved / self._seconds(lambda: torch.add(x, y))

    def _softmax_point(self, rows: int, columns: int) -> tuple[float, float]:
        x = self._random(rows, columns, dtype=DType.BF16)
        moved = 2.0 * rows * columns * DType.BF16.bytes
        return moved, moved / self._seconds(lambda: torch.softmax(x, dim=-1))

    def _random(self, *shape: int, dtype: DType) -> Tensor:
        x = torch.randn(*shape, generator=self._generator, device=self._device.torch_device)
        return x.to(TORCH_DTYPES[dtype])

    @staticmethod
    def _curve(points: Iterable[tuple[float, float]]) -> Curve:
        return tuple(sorted(points))

    def _seconds(self, run: Callable[[], object]) -> float:
        """Seconds of one call in the best of the repeats; each lasts at least ``_MIN_S``."""
        for _ in range(3):
            run()
        synchronise(self._device)
        per_call = []
        for _ in range(_REPEATS):
            calls, start = 0, self._clock()
            while (elapsed := self._clock() - start) < _MIN_S:
                run()
                calls += 1
                if self._device.on_gpu:
                    synchronise(self._device)
            per_call.append(elapsed / calls)
        return min(per_call)
