"""How many of a CPU's cores a training step can use: all, unless its operators are done before they are shared out.

Every operator call of several threads begins and ends with all of them meeting. A call of a few million FLOPs takes one
core some tens of microseconds, no longer than such a meeting: then further threads cost chip-seconds and gain nothing.
A rule on counted numbers and not a timing, so that a run that is gone on with decides alike.
"""

from __future__ import annotations

from twobills.counts.operations import total_flops
from twobills.counts.trained_step import train_step_operations
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec

SHARED_FLOPS_PER_CALL = 5e6
"""Mean FLOPs of a step's operator calls from which on they are shared out, as measured in ``docs/log.md``."""


def useful_threads(
    model: ModelSpec, n_cores: int, *, batch_size: int, seq_len: int, accumulate: int = 1, optimizer: str = "muon"
) -> int:
    """Threads for steps of this size on a machine of ``n_cores``, whatever the number format."""
    operations = train_step_operations(
        model, batch_size=batch_size, seq_len=seq_len, dtype=DType.BF16, accumulate=accumulate, optimizer=optimizer
    )
    n_calls = sum(op.calls for op in operations if op.name == "operator calls")
    return n_cores if total_flops(operations) / n_calls >= SHARED_FLOPS_PER_CALL else 1
