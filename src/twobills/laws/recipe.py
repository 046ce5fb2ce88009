"""How a cell of a sweep is trained, by its width and its data alone: batch and peak learning rates.

A sweep compares sizes and lengths, so nothing is tuned for one cell. The forms are of others, the constants **ours**,
read off two dozen runs of widths 64 to 128 at 1e12 to 1e13 FLOPs on the standard library (not a fit):
- batch: 1024 tokens at D = 1.1M, growing with D^0.38 (the exponent is recalled from nanochat; half and twice the batch
  were both worse there);
- Muon's rate: 0.012 at width 64 and D = 1.1M, falling with the root of the width and with the root of D: longer runs
  want lower rates, and by more than is usual for larger models;
- AdamW's (embedding, norms): 6e-3 at width 64, ∝ d_model^-0.5 as in nanochat.
Outside those widths and lengths it is an extrapolation, which a sweep's curves inherit.
"""

from __future__ import annotations

from typing import NamedTuple

BATCH_TOKENS, BATCH_EXPONENT = 1024.0, 0.38
MUON_LR, MUON_WIDTH_EXPONENT, MUON_DATA_EXPONENT = 0.012, -0.5, -0.5
ADAMW_LR, ADAMW_WIDTH_EXPONENT = 6e-3, -0.5
AT_TOKENS, AT_WIDTH = 1.1e6, 64.0
"""Where the constants were found."""
MOST_LR = 0.03
MIN_STEPS = 20
"""Fewer updates train nothing: batches shrink to allow them, down to one sequence."""


class Recipe(NamedTuple):
    """What a run of one size and length is trained with."""

    batch_size: int
    """Sequences per step."""
    lr: float
    """Peak, of AdamW."""
    muon_lr: float


def recipe(*, d_model: int, n_tokens: float, seq_len: int) -> Recipe:
    """Batch and peak rates for ``n_tokens`` of training at this width."""
    width, data = d_model / AT_WIDTH, n_tokens / AT_TOKENS
    batch_tokens = min(BATCH_TOKENS * data**BATCH_EXPONENT, n_tokens / MIN_STEPS)
    return Recipe(
        batch_size=max(1, round(batch_tokens / seq_len)),
        lr=min(MOST_LR, ADAMW_LR * width**ADAMW_WIDTH_EXPONENT),
        muon_lr=min(MOST_LR, MUON_LR * width**MUON_WIDTH_EXPONENT * data**MUON_DATA_EXPONENT),
    )
