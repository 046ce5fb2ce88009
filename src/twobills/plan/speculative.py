"""Speculative decoding: a draft guesses some tokens ahead, and one step of the model checks them all.

With a chance ``acceptance`` that each guess is what the model would have said, a step with k guesses yields
(1 - a^(k+1)) / (1 - a) tokens at the mean. Ref: Leviathan et al. 2023, arXiv:2211.17192, equation 1. A checking step
computes k + 1 tokens of every sequence and reads its weights and caches once; the draft's k steps run before it, on the
same chips, at the same number of sequences. Its weights and cache take room from the model's.
Left out: the draft reading prompts, guesses that depend on each other in trees, acceptance that changes with the text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from twobills.counts.serving_step import kv_cache_bytes, serving_step, weights_per_chip
from twobills.errors import SpecError
from twobills.perf.serving_step import ServingRates, serving_step_s
from twobills.plan.queueing import mg1_wait_s
from twobills.plan.serving_split import TokenShares, situation_of
from twobills.plan.steady import Instance, Steady
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec

_ROUNDS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """What guesses, how far ahead and how well."""

    n_guesses: int
    """Tokens guessed before each check."""
    acceptance: float
    """Chance that a guess is right, given that those before it were."""
    draft: ModelSpec | None = None
    draft_step_frac: float = 0.0
    """Without a draft model: one guess over one plain step of the model (heads beside it, n-grams)."""

    def __post_init__(self) -> None:
        if self.n_guesses < 1:
            raise SpecError(f"n_guesses={self.n_guesses}: must be at least 1")
        if not 0 <= self.acceptance <= 1:
            raise SpecError(f"acceptance={self.acceptance:g}: must be from 0 to 1")
        if not 0 <= self.draft_step_frac < 1:
            raise SpecError(f"draft_step_frac={self.draft_step_frac:g}: must be from 0 to below 1")


class Speculated(NamedTuple):
    """The steady state with speculation, and what it did."""

    steady: Steady
    capacity_per_s: float
    tokens_per_step: float
    draft_share: float
    """Of a step's time."""
    speedup: float
    """Plain time per token over this one, at the same number of sequences."""
    decode_work: tuple[float, float]
    """FLOPs and bytes of the checks over those of plain decoding."""


def expected_tokens(acceptance: float, n_guesses: int) -> float:
    """Tokens that a checking step yields at the mean."""
    if acceptance == 1:
        return n_guesses + 1.0
    return float((1 - acceptance ** (n_guesses + 1)) / (1 - acceptance))


def speculated(
    model: ModelSpec,
    instance: Instance,
    rates: ServingRates,
    load: Load,
    plain: Steady,
    speculation: Speculation,
    *,
    n_instances: int,
) -> Speculated:
    """Where an instance settles with speculation; ``plain`` is its state without (each one row).

    Raises SpecError where the draft leaves no room, or the load saturates the instances.
    """
    step = _Step(model, instance, rates, load, speculation)
    most = _most_running(model, instance, load, plain, speculation)
    capacity = step.answers_per_s(most)
    n = _settled(step, load, plain, most, capacity, n_instances)
    whole, tpot, answers = step.seconds(n), step.tpot_s(n), step.answers_per_s(n)
    utilization, reading_s = answers / capacity, float(plain.ttft_s[0] - plain.queue_s[0])
    queue_s = whole / 2 + max(float(plain.queue_s[0] - plain.step_s[0] / 2), 0.0)
    if load.requests_per_s is not None:
        queue_s = whole / 2 + mg1_wait_s(utilization, reading_s)
    column = instance.tp * 0.0
    steady = plain._replace(
        n_running=column + n,
        step_s=column + whole,
        tpot_s=column + tpot,
        queue_s=column + queue_s,
        ttft_s=column + queue_s + reading_s,
        answers_per_s=column + answers,
        most_running=column + most,
        utilization=column + utilization,
    )
    work = ((speculation.n_guesses + 1) / step.tokens, 1 / step.tokens)
    return Speculated(steady, capacity, step.tokens, step.draft_s(n) / whole, step.plain_s(n) / tpot, work)


def shares_of(plain: TokenShares, found: Speculated) -> TokenShares:
    """Who pays for a step: prompts take as long as before, caches are read once a check, the output pays the rest."""
    prompts = min(plain.prompts * found.speedup, 1 - found.draft_share)
    cache_factor = found.speedup / found.tokens_per_step
    cache = plain.cache_per_prompt_token * cache_factor
    cached = plain.cached_input * cache_factor
    new = prompts + (plain.input - plain.prompts) * cache_factor
    return TokenShares(new, cached, 1 - new - cached, prompts, cache)


class _Step:
    """Seconds of a step with its guesses, for any number of sequences."""

    def __init__(
        self, model: ModelSpec, instance: Instance, rates: ServingRates, load: Load, speculation: Speculation
    ) -> None:
        self.model, self.instance, self.rates, self.load, self.how = model, instance, rates, load, speculation
        self.tokens = expected_tokens(speculation.acceptance, speculation.n_guesses)
        self.read_per_token = load.prompt_tokens * (1 - load.cached_frac) / load.answer_tokens

        # A guess is a forward pass inside the engine's step, which schedules and samples once.
        self.guess_rates = rates._replace(step_s=0.0, sequence_s=0.0)

    def _step_s(
        self, model: ModelSpec, n: float, n_prompt: float, prompt: float, rates: ServingRates | None = None
    ) -> float:
        context = self.load.prompt_tokens + self.load.answer_tokens / 2
        situation = situation_of(self.instance, n, context, n_prompt, prompt)
        return float(serving_step_s(serving_step(model, situation), rates or self.rates)[0])

    def plain_s(self, n: float) -> float:
        """Without guesses, prompts mixed in."""
        return self._step_s(self.model, n, n * self.read_per_token, self.load.prompt_tokens)

    def draft_s(self, n: float) -> float:
        """All guesses."""
        if self.how.draft is None:
            one = self.how.draft_step_frac * self._step_s(self.model, n, 0.0, 1.0)
        else:
            one = self._step_s(self.how.draft, n, 0.0, 1.0, self.guess_rates)
        return self.how.n_guesses * one

    def mixed_s(self, n: float) -> float:
        """The check, with the prompts of those that finish: guesses have their sequence's context, so 1 of their own.

        What prompts add is timed beside plain decoding: they would share no more than that with the guesses.
        """
        check = self._step_s(self.model, n, n * self.how.n_guesses, 1.0)
        read = n * self.tokens * self.read_per_token
        added = self._step_s(self.model, n, read, self.load.prompt_tokens) - self._step_s(self.model, n, 0.0, 1.0)
        return check + max(added, 0.0)

    def seconds(self, n: float) -> float:
        """Guesses and check."""
        return self.draft_s(n) + self.mixed_s(n)

    def tpot_s(self, n: float) -> float:
        """Of one token."""
        return self.seconds(n) / self.tokens

    def answers_per_s(self, n: float) -> float:
        """Of one instance."""
        return n / self.tpot_s(n) / self.load.answer_tokens


def _settled(step: _Step, load: Load, plain: Steady, most: float, capacity: float, n_instances: int) -> float:
    """Sequences that run at once."""
    if load.requests_per_s is not None:
        wanted = load.requests_per_s / n_instances
        if wanted >= capacity:
            raise SpecError(
                f"requests_per_s={load.requests_per_s:g}: saturates {n_instances} instances with speculation, which "
                f"take at most {capacity * n_instances:.3g} a second; speculate less or offer more chips"
            )
        low, high = 1e-6, most
        for _ in range(_ROUNDS):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if step.answers_per_s(middle) < wanted else (low, middle)
        return high
    if load.concurrency is None:
        return most
    clients, reading_s = load.concurrency / n_instances, float(plain.ttft_s[0] - plain.queue_s[0])
    room = most + step.answers_per_s(most) * reading_s
    if clients > room:
        raise SpecError(
            f"concurrency={load.concurrency:g}: saturates {n_instances} instances with speculation, which have "
            f"room for about {math.floor(n_instances * room):,} such clients at once; offer fewer or more chips"
        )
    n = min(clients, most)
    for _ in range(12):
        n = max(min(clients - step.answers_per_s(n) * reading_s, most), clients / 2)
        n = min(n, most)
    return n


def _most_running(model: ModelSpec, instance: Instance, load: Load, plain: Steady, speculation: Speculation) -> float:
    """Sequences that fit beside the draft."""
    most, draft = float(plain.most_running[0]), speculation.draft
    if draft is None:
        return most
    spare = float(plain.spare_bytes[0])
    held = float(weights_per_chip(draft, situation_of(instance, 1.0, 1.0, 0.0, 1.0))[0])
    longest = load.prompt_tokens + load.answer_tokens
    own, extra = (float(np.max(kv_cache_bytes(m, longest, instance.kv_bytes))) for m in (model, draft))
    left = np.floor(most * max(spare - held, 0.0) / spare * own / (own + extra))
    if left < 1:
        raise SpecError(f"draft {draft.name}: leaves no room for a request beside {model.name}; take a smaller draft")
    return float(left)
