"""Which software ran a row of a table."""

from __future__ import annotations

import pytest

from twobills.flows.validation.rows import degrees_of
from twobills.flows.validation.software import stack_of
from twobills.specs.parallel import Stack

STATED = {"source": "torchtitan benchmarks", "model": "Llama 3.1 8B", "chip": "h100_80gb", "parallelism": "FSDP64"}


@pytest.mark.parametrize(
    ("changes", "stack"),
    [
        ({"source": "llm-foundry README"}, Stack.EAGER),
        ({"note": "FSDP+compile+Float8"}, Stack.COMPILED),
        ({"source": "Megatron-LM", "source_url": "https://arxiv.org/abs/2104.04473"}, Stack.EARLY),
        ({"source": "Megatron-LM", "source_url": "https://arxiv.org/abs/2402.15627"}, Stack.FUSED),
        ({"source": "MLPerf Training", "note": "system eos_ngc24.09_nemo; NVIDIA logs"}, Stack.OVERLAPPED),
        ({"source": "a paper", "parallelism": "TP8 PP4", "chip": "a100_80gb"}, Stack.FUSED),
        ({"source": "a paper", "parallelism": "TP8 PP4"}, Stack.OVERLAPPED),
        ({"source": "a paper", "model": "Nemotron-3-8B", "parallelism": "TP4", "chip": "a100_80gb"}, Stack.FUSED),
    ],
)
def test_software_is_read_from_the_frameworks_that_a_row_names(changes: dict[str, str], stack: Stack) -> None:
    row = {**STATED, **changes}
    assert stack_of(row, degrees_of(row)) is stack
