"""A pool of instances that only reads prompts: its speed, the wait of a prompt, its cache's way to the other pool.

Each rank reads a few prompts in one step, as far as they are no more tokens than an engine takes; a longer one is read
alone. With clients or a queue the next prompts are there when a reading ends, and one that comes between waits for half
of it at the mean. Requests that come as they like wait for the rest of a reading and then for those before them: for
one prompt at a time that is M/D/1. A cache travels from all chips that hold a part of it to as many of the other pool.
Left out: a transfer that begins before the prompt is read (layer by layer), transfers that queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.counts.layouts import Column
from twobills.counts.serving_step import Situations, kv_cache_bytes, serving_step
from twobills.perf.serving_step import ServingRates, serving_step_s
from twobills.plan.queueing import wait_quantile_s
from twobills.plan.steady import MOST_STEP_TOKENS, Instance
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec

PROMPTS_AT_ONCE = (1, 2, 4, 8, 16)
"""On each rank."""


class Readings(NamedTuple):
    """Columns: instances that read so many prompts at once."""

    instance: NDArray[np.intp]
    """Row of the table of instances."""
    prompts: Column
    """Of all ranks of an instance, in one turn of its pipeline."""


class Speed(NamedTuple):
    """Columns: what readings take."""

    read_s: Column
    """From a prompt's first operation to its last."""
    turn_s: Column
    """Between two readings: pipeline stages work on several."""
    per_s: Column
    """Prompts of one instance."""


def readings(load: Load, dp: Column, most_running: Column, per_rank: Sequence[int] = PROMPTS_AT_ONCE) -> Readings:
    """Every instance that holds a request with every number of prompts that its memory and one step have room for."""
    instance = np.repeat(np.flatnonzero(most_running >= 1), len(per_rank))
    each = np.tile(np.array(per_rank, dtype=np.float64), len(instance) // len(per_rank))
    tokens = each * load.prompt_tokens * (1 - load.cached_frac)
    prompts = each * dp[instance]
    kept = (prompts <= np.maximum(most_running[instance], dp[instance])) & ((each == 1) | (tokens <= MOST_STEP_TOKENS))
    return Readings(instance[kept], prompts[kept])


def reading_situations(i: Instance, prompts: Column, load: Load) -> Situations:
    """The step in which each instance reads so many prompts, a pipeline stage's turn at a time."""
    nobody = i.tp * 0.0
    tokens = prompts * load.prompt_tokens * (1 - load.cached_frac)
    length = nobody + max(load.prompt_tokens, 1.0)
    return Situations(i.tp, i.pp, i.ep, i.dp, i.weight_bytes, i.kv_bytes, nobody, nobody + 1, tokens, length)


def reading_speed(model: ModelSpec, i: Instance, rates: ServingRates, load: Load, prompts: Column) -> Speed:
    """How fast these instances (rows as in ``prompts``) read."""
    read_s = np.asarray(serving_step_s(serving_step(model, reading_situations(i, prompts, load)), rates))
    return Speed(read_s, read_s / i.pp, prompts * i.pp / read_s)


def wait_s(busy: Column, turn_s: Column, prompts: Column, *, at_random: bool) -> Column:
    """Mean wait of a prompt before it is read; infinite where more come than are read."""
    rest_s = busy * turn_s / 2
    if not at_random:
        return np.asarray(rest_s)
    with np.errstate(divide="ignore", invalid="ignore"):
        others_s = busy**2 / (2 * (1 - busy)) * turn_s / prompts
    return np.asarray(np.where(busy < 1, rest_s + others_s, np.inf))


def late_wait_s(quantile: float, busy: float, turn_s: float, prompts: float) -> float:
    """The wait that this share of requests that come as they like does not exceed."""
    rest_s = (1 - 1 / prompts) * busy * turn_s
    return wait_quantile_s(quantile, busy, turn_s / prompts, rest_s)


def transfer_s(
    model: ModelSpec, load: Load, kv_bytes: Column, rates: ServingRates, *, lanes: Column, n_chips: Column
) -> Column:
    """Seconds for one prompt's cache over ``lanes``: fast links where they join all ``n_chips``, else the network."""
    n_bytes = kv_cache_bytes(model, load.prompt_tokens, kv_bytes)
    per_lane = np.where(n_chips <= rates.n_fast, rates.fast_bytes_per_s, rates.slow_bytes_per_s)
    return np.asarray(n_bytes / (lanes * per_lane))
