"""How a step runs, decided before the first: which attention, whether compiling repays itself, and by what.

Attention is timed where it matters: the rule of ``counts`` is what plans assume, and only an implementation that is
clearly faster here takes its place. Compiling is judged by the run's planned FLOPs alone, so that the answer is the
same whenever it is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

from twobills.counts.flops import train_flops_per_token
from twobills.counts.memory import PART_TOKENS, SQUARE_BLOCKS, SQUARE_MAX_SEQ_LEN, attention_blocks
from twobills.jobs.device import TORCH_DTYPES, Device
from twobills.jobs.native.layer import runs_natively
from twobills.jobs.nn.mixing import FUSED, Mixing, make_mixing
from twobills.specs.model import ModelSpec
from twobills.specs.training import TrainingSpec

PROBED_SCORES = 2**21
"""Scores of one part's layer from which on attention is timed."""
CLEARLY = 0.8
"""An implementation takes the rule's place if it needs less than this part of its time."""
REPAYS_CPU_FLOPS = 2e15
"""Compiling a layer takes about half a minute on a CPU and has given a few per cent at best."""
REPAYS_GPU_FLOPS = 1e16
"""On a GPU it takes about a minute and gives tens of per cent."""


def choose(model: ModelSpec, spec: TrainingSpec, device: Device) -> dict[str, int]:
    """Blocks of attention's square, and whether PyTorch compiles the step or kernels of our own run it.

    What is compiled on a CPU is run by ``jobs.native`` where it can be.
    """
    compiled = repays_compiling(model, spec, device)
    native = compiled and not device.on_gpu and runs_natively(model, spec.dtype)
    return {
        "attention_blocks": FUSED if device.on_gpu else choose_blocks(model, spec),
        "compiled": int(compiled and not native),
        "native": int(native),
    }


def choose_again(kept: Mapping[str, int], model: ModelSpec, spec: TrainingSpec, device: Device) -> dict[str, int]:
    """What another process chose, but for ``compile`` where the run now says it."""
    if spec.compile == "auto":
        return dict(kept)
    return {**choose(model, spec, device), "attention_blocks": kept["attention_blocks"]}


def choose_blocks(model: ModelSpec, spec: TrainingSpec) -> int:
    """Blocks of the square on this CPU; ``FUSED`` for the fused kernel."""
    rule = attention_blocks(spec.seq_len, spec.dtype)
    n_rows = min(spec.batch_size, max(1, PART_TOKENS // spec.seq_len))
    n_scores = n_rows * model.n_heads * spec.seq_len**2
    if n_scores < PROBED_SCORES or spec.seq_len > SQUARE_MAX_SEQ_LEN:
        return rule
    other = FUSED if rule else SQUARE_BLOCKS
    seconds = {n: _attention_s(model, spec, n_rows, n) for n in (rule, other)}
    return other if seconds[other] < CLEARLY * seconds[rule] else rule


def repays_compiling(model: ModelSpec, spec: TrainingSpec, device: Device) -> bool:
    """Whether the step is to be compiled."""
    if isinstance(spec.compile, bool):
        return spec.compile
    planned = train_flops_per_token(model, spec.seq_len) * spec.n_tokens
    return planned > (REPAYS_GPU_FLOPS if device.on_gpu else REPAYS_CPU_FLOPS)


@torch.no_grad()
def _attention_s(model: ModelSpec, spec: TrainingSpec, n_rows: int, n_blocks: int) -> float:
    """Seconds of one layer's mixing, forward and backward, the best of a few."""
    dtype = TORCH_DTYPES[spec.dtype]
    mixing = make_mixing(model, n_rows=n_rows, seq_len=spec.seq_len, n_blocks=n_blocks, dtype=dtype)
    B, T, A, D = mixing.shape(model)
    qkv = torch.randn(A, B, T, D, generator=torch.Generator().manual_seed(0)).to(dtype)
    return min(_seconds(lambda: _there_and_back(mixing, qkv, model)) for _ in range(4))


def _there_and_back(mixing: Mixing, qkv: torch.Tensor, model: ModelSpec) -> None:
    mixed, kept = mixing.forward(qkv, model)
    mixing.backward(mixed, qkv, kept, model)


def _seconds(run: Callable[[], None]) -> float:
    start_s = time.process_time()
    run()
    return time.process_time() - start_s
