"""One request on its way through an engine: what was asked, how far it is, when each thing happened.

Tokens are integers and nothing here knows what they mean. A request's known tokens are its prompt and what
it has generated; ``n_computed`` of them have keys and values in the cache. A preempted request loses its
cache and computes all its known tokens again, so what it had generated becomes part of what is prefilled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from twobills.errors import SpecError


class Status(StrEnum):
    """Where a request is."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class FinishReason(StrEnum):
    """Why a request ended: a stop token or string, its length limit, or its client left."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How tokens are chosen, and when to end. Raises SpecError where a value makes no sense."""

    max_tokens: int
    """Tokens to generate at most, the stop token included."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    """Keep the likeliest tokens that together reach this probability; 1 keeps all."""
    top_k: int = 0
    """Keep so many likeliest tokens; 0 keeps all."""
    seed: int | None = None
    """Same seed, same tokens; None leaves the choice to the engine."""
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    """Whether to go on past the model's own end-of-text tokens."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise SpecError(f"max_tokens={self.max_tokens}: must be at least 1")
        if not 0 <= self.temperature <= 100:
            raise SpecError(f"temperature={self.temperature}: must be between 0 (greedy) and 100")
        if not 0 < self.top_p <= 1:
            raise SpecError(f"top_p={self.top_p}: must be above 0 and at most 1")
        if self.top_k < 0:
            raise SpecError(f"top_k={self.top_k}: must be at least 0 (0 keeps all tokens)")


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """One request and its state; only a scheduler changes it. Times are seconds on the driver's clock."""

    id: str
    prompt_token_ids: Sequence[int]
    params: SamplingParams
    arrival_s: float = 0.0
    output_token_ids: list[int] = field(default_factory=list)
    status: Status = Status.WAITING
    finish_reason: FinishReason | None = None
    n_computed: int = 0
    """Known tokens whose keys and values are in the cache."""
    n_to_prefill: int = 0
    """Known tokens when it was last admitted: computing these is prefill, anything later is decode."""
    n_preemptions: int = 0
    block_table: list[int] = field(default_factory=list)
    """Cache blocks it holds, in the order of its tokens."""
    scheduled_s: float | None = None
    first_token_s: float | None = None
    finished_s: float | None = None

    def __post_init__(self) -> None:
        if not self.prompt_token_ids:
            raise SpecError(f"request {self.id}: prompt is empty; it must hold at least one token")

    @property
    def n_tokens(self) -> int:
        """Known tokens: prompt and output so far."""
        return len(self.prompt_token_ids) + len(self.output_token_ids)

    @property
    def is_prefilling(self) -> bool:
        """Whether tokens known at its admission are still to be computed."""
        return self.n_computed < self.n_to_prefill

    def tokens(self, start: int, n_tokens: int) -> list[int]:
        """Known tokens ``start`` to ``start + n_tokens``."""
        n_prompt = len(self.prompt_token_ids)
        if start >= n_prompt:
            return self.output_token_ids[start - n_prompt : start - n_prompt + n_tokens]
        head = list(self.prompt_token_ids[start : start + n_tokens])
        return head + list(islice(self.output_token_ids, n_tokens - len(head)))
