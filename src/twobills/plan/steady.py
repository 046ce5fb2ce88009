"""What one serving instance settles into under a load, for many instances at once, in closed form.

Engines mix prompts into the steps of running sequences (chunked prefill), so a steady state is one step: ``n``
sequences that each gain a token, and the prompts of those that take the places of the finished, n x prompt / answer
tokens. Where n is less than the answer's tokens, a prompt comes whole in one step of answer / n, and the others run
without. The mean step is the time per output token; throughput is n over it. Cache is set aside for whole answers, so
that none is evicted. A prompt is read in the step after the one that runs when it comes; what waits before it is the
queue. With all requests queued, n is what memory and the engine allow. Clients that wait (a closed loop) are running
or being read, and come in clumps, as their answers end, so that prompts wait for each other (``prompt_wait``); more
clients than there is room for saturate the instance.
Requests that come as they like settle where as many leave as come, if there is such a point, and queue as in M/D/1;
beyond it the load saturates the instance, and no latency is given.
Left out: variance of lengths, preemption, time between client and server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.counts.layouts import Column
from twobills.counts.serving_step import Situations, kv_cache_bytes, serving_step, weights_per_chip
from twobills.perf.serving_step import ServingRates, serving_step_s
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec

RESERVED_BYTES = 2e9
"""Assumed: of each chip, for the engine's context, graphs and activations."""
USABLE_FRAC = 0.92
"""Of a chip's memory, what engines give to weights and cache by default (0.90 in vLLM, 0.95 in TensorRT-LLM)."""
MOST_SEQUENCES = 2048
"""Sequences that an engine runs at once, unless said otherwise."""
MOST_STEP_TOKENS = 8192
"""Prompt tokens that an engine reads in one step."""
ROUNDS = 32
"""Halvings on the way to a steady state: to a millionth of a per cent."""
_FEWEST = 1e-6
"""Sequences that run on the average where hardly anybody asks."""


class Instance(NamedTuple):
    """Columns: how instances are spread over chips and in which formats."""

    tp: Column
    pp: Column
    ep: Column
    dp: Column
    weight_bytes: Column
    kv_bytes: Column
    memory_bytes: Column
    """Of one chip."""

    @property
    def n_chips(self) -> Column:
        """Chips of one instance."""
        return self.tp * self.pp * self.dp


class Steady(NamedTuple):
    """Columns: the steady state of each instance; latencies are nan where there is none."""

    n_running: Column
    """Sequences that produce tokens, of the whole instance."""
    step_s: Column
    tpot_s: Column
    ttft_s: Column
    """Mean, its wait in the queue included."""
    queue_s: Column
    """Mean wait before a prompt is read."""
    answers_per_s: Column
    prompt_step_share: Column
    """Share of a step's time that prompts add: what input tokens cost."""
    most_running: Column
    """Sequences that memory and the engine allow."""
    spare_bytes: Column
    """Of one chip beside the weights, before any cache; below 0 where the model does not fit."""
    saturated: NDArray[np.bool_]
    utilization: Column
    """Offered over what it can take; 1 where all is queued."""

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Whether weights and at least one sequence fit."""
        return np.asarray((self.spare_bytes > 0) & (self.most_running >= 1))


def steady_state(
    model: ModelSpec,
    instance: Instance,
    rates: ServingRates,
    load: Load,
    *,
    n_instances: Column | float = 1.0,
    most_sequences: Column | float = MOST_SEQUENCES,
) -> Steady:
    """Where each instance settles when the load is shared out evenly among ``n_instances`` of its kind."""
    room = _Room(model, instance, rates, load, most_sequences)
    full = room.at(room.most)
    capacity = full.answers_per_s
    if load.requests_per_s is not None:
        wanted = load.requests_per_s / n_instances + room.zero
        return _open(room, wanted, capacity)
    if load.concurrency is not None:
        return _closed(room, load.concurrency / n_instances + room.zero, full)
    return full


def most_running(
    model: ModelSpec,
    instance: Instance,
    *,
    prompt: Column,
    answer: Column,
    most_sequences: Column | float = MOST_SEQUENCES,
) -> Column:
    """Sequences that memory and engine allow at once, a cache for the whole answer set aside for each."""
    per_sequence = kv_cache_bytes(model, prompt + answer, instance.kv_bytes)
    room = np.maximum(spare_bytes(model, instance), 0) * instance.n_chips / _copies(model, instance)
    return np.maximum(np.minimum(np.floor(room / per_sequence), most_sequences * instance.dp), 0.0)


def spare_bytes(model: ModelSpec, instance: Instance) -> Column:
    """Of one chip beside the weights and what the engine takes; below 0 where the weights do not fit."""
    zero = instance.tp * 0.0
    held = weights_per_chip(model, _situation(instance, zero, zero + 1, zero, zero + 1))
    return instance.memory_bytes * USABLE_FRAC - RESERVED_BYTES - held


def in_flight(state: Steady) -> Column:
    """Requests that are running or being read: where all that fit run, as many clients as there is room for."""
    return state.n_running + state.answers_per_s * state.ttft_s


class _Room:
    """What stays the same while the number of running sequences is sought."""

    def __init__(
        self, model: ModelSpec, instance: Instance, rates: ServingRates, load: Load, most: Column | float
    ) -> None:
        self.model, self.instance, self.rates, self.load = model, instance, rates, load
        self.zero = instance.tp * 0.0
        self.read_tokens = load.prompt_tokens * (1 - load.cached_frac)
        self.context = self.zero + load.prompt_tokens + load.answer_tokens / 2
        self.spare = spare_bytes(model, instance)
        prompt, answer = self.zero + load.prompt_tokens, self.zero + load.answer_tokens
        self.most = most_running(model, instance, prompt=prompt, answer=answer, most_sequences=most)

    def step(self, n_running: Column, n_prompt: Column) -> Column:
        """Seconds of a step with so many sequences and prompt tokens, one pipeline stage's turn each.

        A step that runs has a sequence: fewer on the average mean that no step runs most of the time.
        """
        pp = self.instance.pp
        prompt_context = self.zero + max(self.load.prompt_tokens, 1.0)
        situation = _situation(
            self.instance, np.maximum(n_running / pp, 1.0), self.context, n_prompt / pp, prompt_context
        )
        return serving_step_s(serving_step(self.model, situation), self.rates)

    def at(self, n_running: Column) -> Steady:
        """The state of so many running sequences with as many prompts as they finish.

        A prompt passes pipeline stages in as many pieces: the last leaves after 2 x stages - 1 turns.
        """
        n = np.maximum(n_running, 1e-9)
        with_prompt = np.minimum(n / self.load.answer_tokens, 1.0)
        alone = self.step(n, self.zero)
        both = alone + with_prompt * (
            self.step(n, n * self.read_tokens / self.load.answer_tokens / with_prompt) - alone
        )
        reading = self.step(n, self.zero + self.read_tokens) * (2 - 1 / self.instance.pp)
        answers = n / both / self.load.answer_tokens
        return Steady(
            n_running=n_running,
            step_s=both,
            tpot_s=both,
            ttft_s=both / 2 + reading * self.rates.prompt_wait,
            queue_s=both / 2 + reading * (self.rates.prompt_wait - 1),
            answers_per_s=answers,
            prompt_step_share=1 - alone / both,
            most_running=self.most,
            spare_bytes=self.spare,
            saturated=np.zeros(len(self.zero), dtype=bool),
            utilization=self.zero + 1,
        )


def _copies(model: ModelSpec, instance: Instance) -> Column:
    """How often a sequence's cache is held: tensor-parallel ranks beyond the key-value heads repeat it."""
    parts = 1.0 if model.latent is not None else np.minimum(instance.tp, model.n_kv_heads)
    return np.asarray(instance.tp / parts)


def _closed(room: _Room, clients: Column, full: Steady) -> Steady:
    """Every client is running, or its prompt is read: as many in all as there are, if memory has room for them."""
    saturated = clients > in_flight(full)
    found = _least_running(room, np.minimum(clients, room.most), lambda at: in_flight(at) >= clients)
    return found._replace(
        ttft_s=np.where(saturated, np.nan, found.ttft_s),
        queue_s=np.where(saturated, np.nan, found.queue_s),
        tpot_s=np.where(saturated, np.nan, found.tpot_s),
        saturated=saturated,
        utilization=found.answers_per_s / full.answers_per_s,
    )


def _least_running(room: _Room, most: Column, enough: Callable[[Steady], NDArray[np.bool_]]) -> Steady:
    """The state of the fewest sequences that are enough; of ``most`` where those are not."""
    low, high = room.zero + _FEWEST, np.maximum(most, _FEWEST)
    for _ in range(ROUNDS):
        middle = np.sqrt(low * high)
        found = enough(room.at(middle))
        low, high = np.where(found, low, middle), np.where(found, middle, high)
    return room.at(high)


def _open(room: _Room, wanted: Column, capacity: Column) -> Steady:
    """As many running that as many answers leave as come; prompts queue as in M/D/1."""
    saturated = wanted >= capacity
    found = _least_running(room, room.most, lambda at: at.answers_per_s >= wanted)
    busy = np.clip(wanted / capacity, 0.0, 0.999)
    reading = found.ttft_s - found.queue_s
    wait = found.step_s / 2 + busy / (2 * (1 - busy)) * reading
    ttft = np.where(saturated, np.nan, wait + reading)
    return found._replace(
        ttft_s=ttft,
        queue_s=np.where(saturated, np.nan, wait),
        tpot_s=np.where(saturated, np.nan, found.tpot_s),
        answers_per_s=np.minimum(wanted, capacity),
        saturated=saturated,
        utilization=wanted / capacity,
    )


def _situation(i: Instance, n_decode: Column, context: Column, n_prompt: Column, prompt_context: Column) -> Situations:
    return Situations(i.tp, i.pp, i.ep, i.dp, i.weight_bytes, i.kv_bytes, n_decode, context, n_prompt, prompt_context)
