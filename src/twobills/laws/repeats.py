"""What repeated data is worth: the number of different tokens that so many epochs of a corpus stand for.

A first repeat teaches almost as much as new text and each further one less; what it adds decays with R* epochs.
Ref: Muennighoff et al. 2023, arXiv:2305.16264, equation 5, R*_D = 15.39 (their C4 fit).
"""

from __future__ import annotations

import math

REPEAT_DECAY_EPOCHS = 15.387756


def effective_tokens(n_tokens: float, n_unique: float) -> float:
    """Different tokens that would teach as much as ``n_tokens`` drawn from ``n_unique`` ones over and over."""
    if n_tokens <= n_unique:
        return n_tokens
    repeats = n_tokens / n_unique - 1
    return n_unique * (1 + REPEAT_DECAY_EPOCHS * (1 - math.exp(-repeats / REPEAT_DECAY_EPOCHS)))
