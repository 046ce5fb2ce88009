"""What is asked of a served model: how long prompts and answers are, and how they come."""

from __future__ import annotations

import math
from dataclasses import dataclass

from twobills.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests of one mean shape. Either ``concurrency`` clients that each wait for their answer (a closed loop),
    or ``requests_per_s`` that come as they like (an open one), or neither: all queued at once."""

    prompt_tokens: float
    answer_tokens: float
    concurrency: float | None = None
    """Requests in flight, over all instances."""
    requests_per_s: float | None = None
    """Over all instances."""
    cached_frac: float = 0.0
    """Share of the prompt tokens whose keys and values are already in the cache (prefix hits)."""

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "answer_tokens", "concurrency", "requests_per_s"):
            if (getattr(self, name) or 0.0) == math.inf:
                raise SpecError(f"{name}=inf: must be finite")
        for name, least in (("prompt_tokens", 1), ("answer_tokens", 1)):
            if not getattr(self, name) >= least:
                raise SpecError(f"{name}={getattr(self, name):g}: must be at least {least}")
        if self.concurrency is not None and self.requests_per_s is not None:
            raise SpecError("concurrency and requests_per_s: give one; clients wait for answers or they do not")
        if self.concurrency is not None and not self.concurrency >= 1:
            raise SpecError(f"concurrency={self.concurrency:g}: must be at least 1")
        if self.requests_per_s is not None and not self.requests_per_s > 0:
            raise SpecError(
                f"requests_per_s={self.requests_per_s:g}: must be above 0; without traffic there is no bill"
            )
        if not 0 <= self.cached_frac < 1:
            raise SpecError(f"cached_frac={self.cached_frac:g}: must be from 0 to below 1")
