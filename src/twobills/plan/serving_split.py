"""Which tokens a step's time is for: the prompt's, the cached prompt's, the answer's.

A step is taken apart from the outside in. What it takes longer because prompts are read in it is the new input
tokens'. What the rest would be shorter if answers did not look back at their prompts is the keys' and values', whose
tokens share it evenly, cached or not: holding them in memory is paid by being read in every step. What is left
(weights, the answers' own keys, the engine's overhead) is the output's. The three add up to the whole, and a cached
token never costs more than a new one. A prompt is read in one piece, by the steps that it falls into.
Left out: keeping a prefix between requests, which takes memory that nobody else wants at that time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from twobills.counts.layouts import Column
from twobills.counts.serving_step import Situations, serving_step
from twobills.perf.serving_step import ServingRates, serving_step_s
from twobills.plan.steady import Instance
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec


class TokenShares(NamedTuple):
    """Shares of the time in which steps run; input, cached_input and output are 1 together."""

    input: float
    cached_input: float
    output: float
    prompts: float
    """Of it reading prompts: the bill's prefill phase. The rest of what input pays is reading keys in decode."""
    cache_per_prompt_token: float
    """What one held token's keys and values cost: the price of a cached token, also where none is cached."""


def split_step(
    model: ModelSpec,
    instance: Instance,
    rates: ServingRates,
    load: Load,
    n_running: float,
    *,
    reads_prompts: bool = True,
) -> TokenShares:
    """The shares where one instance runs so many sequences; below 1 it works on one at a time, and waits."""
    n = max(n_running, 1.0)
    read_tokens = load.prompt_tokens * (1 - load.cached_frac) * reads_prompts
    whole_context = load.prompt_tokens + load.answer_tokens / 2
    n_reading = n / load.answer_tokens
    chunk = n * read_tokens / load.answer_tokens / min(1.0, n_reading)

    def step_s(context: float, n_prompt: float) -> float:
        situation = situation_of(instance, n, context, n_prompt, load.prompt_tokens)
        return float(serving_step_s(serving_step(model, situation), rates)[0])

    alone, bare = step_s(whole_context, 0.0), step_s(max(load.answer_tokens / 2, 1.0), 0.0)
    prompts = min(1.0, n_reading) * max(step_s(whole_context, chunk) - alone, 0.0)
    cache = max(alone - bare, 0.0)
    whole = alone + prompts
    cached = cache / whole * load.cached_frac
    new = prompts / whole + cache / whole * (1 - load.cached_frac)
    return TokenShares(
        input=new,
        cached_input=cached,
        output=1 - new - cached,
        prompts=prompts / whole,
        cache_per_prompt_token=cache / whole / load.prompt_tokens,
    )


def situation_of(
    instance: Instance, n_running: Column | float, context: float, n_prompt: Column | float, prompt: float
) -> Situations:
    """One step of each instance, a pipeline stage's turn at a time."""
    zero: Column = instance.tp * 0.0
    return Situations(
        *instance[:6],
        n_decode=zero + n_running / instance.pp,
        context=zero + context,
        n_prompt=zero + n_prompt / instance.pp,
        prompt_context=zero + np.maximum(prompt, 1.0),
    )
