"""A training run as it is asked for: which job, on how many tokens, in what batches, formats and software.

What of the parallel plan is given stands in ``plan.space.Fixed``, failures and evaluation in ``specs.running``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from twobills.errors import SpecError
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.parallel import Stack


class JobKind(StrEnum):
    """What a run does to a model."""

    PRETRAIN = "pretrain"
    FINETUNE = "finetune"
    """All weights, on other text."""
    LORA = "lora"
    """Small adapters beside every matrix of the layers; the weights stay (Hu et al. 2021, arXiv:2106.09685)."""
    DISTILL = "distill"
    """As pre-training, and a teacher runs forward over the same tokens on the same chips."""


TRAINING_DTYPES = (DType.BF16, DType.FP8)
"""16 bits throughout, or the layers' products in fp8 and the rest in 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """One run."""

    n_tokens: float
    """That it sees, repeats included."""
    seq_len: int
    global_batch: int
    """Sequences per optimiser step, over all chips."""
    job: JobKind = JobKind.PRETRAIN
    dtype: DType = DType.BF16
    stack: Stack = Stack.OVERLAPPED
    """Software; the default is the best there is."""
    lora_rank: int | None = None
    teacher: ModelSpec | None = None

    def __post_init__(self) -> None:
        if not (self.n_tokens > 0 and math.isfinite(self.n_tokens)):
            raise SpecError(f"n_tokens={self.n_tokens:g}: must be a number above 0")
        for name in ("seq_len", "global_batch"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.n_tokens < self.tokens_per_step:
            raise SpecError(
                f"n_tokens={self.n_tokens:g}: less than one step of {self.global_batch} sequences of "
                f"{self.seq_len} tokens; a smaller batch or more tokens"
            )
        if self.dtype not in TRAINING_DTYPES:
            raise SpecError(f"dtype={self.dtype}: a run is in one of {', '.join(TRAINING_DTYPES)}")
        if self.job is JobKind.LORA and self.lora_rank is None:
            raise SpecError("lora_rank: not given; a lora run needs the rank of its adapters")
        if self.lora_rank is not None and (self.job is not JobKind.LORA or self.lora_rank < 1):
            raise SpecError(
                f"lora_rank={self.lora_rank}: must be at least 1, and only a lora run has one; job={self.job}"
            )
        if self.job is JobKind.DISTILL and self.teacher is None:
            raise SpecError("teacher: not given; a distill run needs the model that it learns from (--teacher)")
        if self.teacher is not None and self.job is not JobKind.DISTILL:
            raise SpecError(f"teacher={self.teacher.name}: only a distill run has one; job={self.job}")

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimiser step."""
        return self.global_batch * self.seq_len

    @property
    def n_steps(self) -> float:
        """Optimiser steps; the last one may be part of one."""
        return self.n_tokens / self.tokens_per_step
