"""What a single bad batch may do: nothing. An update whose loss is far above the recent ones is skipped.

A loss more than ``sigmas`` standard deviations above the mean of the last ``WINDOW`` steps is a spike: its gradients
are thrown away and training goes on with the next batch, as OLMo does (``SkipStepOptimizer``: 128 steps, 6 sigma, after
half a window). Every loss enters the window, so a level that stays is soon no spike. The gradient's norm is not asked:
AdamW's gradients are clipped and Muon is deaf to their length. A loss or norm that is no number ends the run before
the update, so that the weights are still those of the last good step.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from statistics import fmean, stdev

from twobills.errors import TwobillsError

WINDOW = 128
SPIKE_SIGMAS = 6.0


class DivergedError(TwobillsError):
    """The loss or the gradients are no longer numbers."""


class SpikeGuard:
    """Judges each step's loss by those before it. ``sigmas`` of 0 lets everything through that is a number."""

    def __init__(self, sigmas: float = SPIKE_SIGMAS) -> None:
        self._sigmas = sigmas
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self.skipped = False
        """Whether the last step's update was skipped."""

    def __call__(self, loss: float, grad_norm: float) -> bool:
        """Whether to update by these gradients. Raises DivergedError if either is no longer a number."""
        for what, value in (("the loss", loss), ("the gradients' norm", grad_norm)):
            if not math.isfinite(value):
                raise DivergedError(f"{what} is {value}")
        self.skipped = self._is_spike(loss)
        self._losses.append(loss)
        return not self.skipped

    def state(self) -> list[float]:
        """The window, for a checkpoint."""
        return list(self._losses)

    def restore(self, losses: Iterable[float]) -> None:
        """Takes a checkpoint's window up again."""
        self._losses = deque(losses, maxlen=WINDOW)

    def _is_spike(self, loss: float) -> bool:
        if not self._sigmas or len(self._losses) < WINDOW // 2:
            return False
        mean = fmean(self._losses)
        return loss - mean > self._sigmas * stdev(self._losses, mean)
