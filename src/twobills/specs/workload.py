"""A load on a served model: how many requests, how long, how many at once."""

from __future__ import annotations

from dataclasses import dataclass

from twobills.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Requests of one shape, sent by so many clients that each wait for their answer (a closed loop)."""

    n_requests: int
    prompt_tokens: int
    answer_tokens: int
    concurrency: int

    def __post_init__(self) -> None:
        for field in ("n_requests", "prompt_tokens", "answer_tokens", "concurrency"):
            if getattr(self, field) < 1:
                raise SpecError(f"{field}={getattr(self, field)}: must be at least 1")
