"""Complete ways to serve a load: each a layout, a batch and a number of instances, with its latencies and rate.

Aggregated: prompts are read in the steps of running sequences. Every row is the core's steady state at a given number
of running sequences, so nothing is sought. Without a rate of requests, clients keep that many running, and a prompt
waits for the step under way and for other prompts. With one, a row has as many instances as the rate takes, each at
most ``TARGET_UTILIZATION`` busy if there are chips for that, and prompts queue as in M/D/1 by how near the load is to
the most that an instance could take; the rest is as at the row's batch, which instances that share the rate do not
exceed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.counts.layouts import Column
from twobills.errors import SpecError
from twobills.plan.reading import wait_s
from twobills.plan.serving_choice import TARGET_UTILIZATION
from twobills.plan.serving_space import Layouts, Rows, Space, batches
from twobills.plan.steady import MOST_SEQUENCES, Steady, steady_state
from twobills.specs.load import Load
from twobills.units import show_bytes

BLOCK_ROWS = 4096
"""Rows that are evaluated at once: they stay in a core's cache."""
NO_POOL = -1


class Running(NamedTuple):
    """Columns: instances that run so many sequences each, before anybody asks how many there are."""

    layout: Rows
    """Of the space's layouts."""
    batch: Column
    """Sequences of one instance."""
    mixed_s: Column
    """A step with the prompts of those sequences mixed in."""
    alone_s: Column
    """A step without prompts."""
    read_s: Column
    """The step in which a prompt is read."""
    waiting_s: Column
    """Of clients, before their prompt is read."""
    answers_per_s: Column
    """Of one instance that reads its own prompts."""
    capacity_per_s: Column
    """The most that an instance of this layout takes, at the largest batch."""
    written_per_s: Column
    """The most that an instance of this layout takes whose prompts are read elsewhere."""
    most_running: Column
    """Sequences that memory holds."""


class Candidates(NamedTuple):
    """Columns: complete ways to serve."""

    layout: Rows
    batch: Column
    n_instances: Column
    reading: Rows
    """Layout of the pool that reads prompts; ``NO_POOL`` where instances read their own."""
    prompts: Column
    """That an instance of that pool reads at once."""
    n_reading: Column
    """Instances of that pool."""
    n_chips: Column
    """All chips of all instances."""
    ttft_s: Column
    tpot_s: Column
    answers_per_s: Column
    """All instances; the rate asked for, where there is one."""
    most_running: Column

    def select(self, rows: Rows | NDArray[np.bool_]) -> Candidates:
        """The chosen rows."""
        return Candidates._make(column[rows] for column in self)


def running(space: Space, load: Load) -> Running:
    """Every layout at every batch that its memory holds. Raises SpecError, saying by how much, where none fits."""
    queued = Load(prompt_tokens=load.prompt_tokens, answer_tokens=load.answer_tokens, cached_frac=load.cached_frac)
    full = _states(space, space.layouts, queued, None)
    if not full.fits.any():
        raise SpecError(_nothing_fits(space, full))
    layout, batch = batches(space.layouts, np.where(full.fits, full.most_running, 0.0))
    at = _states(space, space.layouts.select(layout), queued, batch)
    return Running(
        layout=layout,
        batch=batch,
        mixed_s=at.step_s,
        alone_s=at.step_s * (1 - at.prompt_step_share),
        read_s=at.ttft_s - at.queue_s,
        waiting_s=at.queue_s,
        answers_per_s=at.answers_per_s,
        capacity_per_s=full.answers_per_s[layout],
        written_per_s=(full.answers_per_s / (1 - full.prompt_step_share))[layout],
        most_running=full.most_running[layout],
    )


def aggregated(space: Space, load: Load, rows: Running) -> Candidates:
    """Instances that read their own prompts: as many as there are chips for, or as the rate takes."""
    layouts = space.layouts.select(rows.layout)
    offered = space.of_offer([offer.cluster.n_chips for offer in space.offers], layouts)
    wait = rows.waiting_s
    most = np.floor(offered / layouts.n_chips)
    if load.requests_per_s is None:
        n_instances = most
        answers = rows.answers_per_s * n_instances
    else:
        able = np.minimum(rows.answers_per_s, TARGET_UTILIZATION * rows.capacity_per_s)
        n_instances = _whole(load.requests_per_s / able, load.requests_per_s / rows.answers_per_s, most)
        answers = np.full(len(rows.batch), load.requests_per_s)
        busy = load.requests_per_s / n_instances / rows.capacity_per_s
        wait = rows.mixed_s / 2 + wait_s(busy, rows.read_s, np.ones(len(busy)), at_random=True)
    nothing = np.zeros(len(rows.batch))
    return Candidates(
        layout=rows.layout,
        batch=rows.batch,
        n_instances=n_instances,
        reading=np.full(len(rows.batch), NO_POOL),
        prompts=nothing,
        n_reading=nothing,
        n_chips=n_instances * layouts.n_chips,
        ttft_s=wait + rows.read_s,
        tpot_s=rows.mixed_s,
        answers_per_s=answers,
        most_running=rows.most_running,
    )


def _whole(needed: Column, at_least: Column, offered: Column) -> Column:
    """Whole instances: as many as are needed; if those are more than are offered, all that are, if they keep up."""
    n = np.ceil(needed)
    return np.where((n > offered) & (np.ceil(at_least) <= offered), offered, n)


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Tables as one."""
    return Candidates._make(np.concatenate(columns) for columns in zip(*parts, strict=True))


def _states(space: Space, layouts: Layouts, load: Load, batch: Column | None) -> Steady:
    """Steady states with these many running, or with all that fit, block by block."""
    found: list[Steady] = []
    for start in range(0, len(layouts.tp), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        block = Layouts._make(column[part] for column in layouts)
        most = MOST_SEQUENCES if batch is None else batch[part] / block.dp
        state = steady_state(space.model, space.instance(block), space.rates_of(block), load, most_sequences=most)
        found.append(state)
    return Steady._make(np.concatenate(columns) for columns in zip(*found, strict=True))


def _nothing_fits(space: Space, full: Steady) -> str:
    lacks = -full.spare_bytes
    nearest = int(np.argmin(lacks))
    layout, chips = space.layouts.select(np.array([nearest])), "more chips, ones with more memory, or smaller formats"
    cluster = space.offers[int(layout.offer[0])].cluster
    at_best = f"{space.model.name}: no layout fits; the nearest, on {layout.n_chips[0]:.0f} x {cluster.chip.name}"
    if lacks[nearest] > 0:
        return f"{at_best}, lacks {show_bytes(float(lacks[nearest]))} a chip for the weights; {chips}"
    return f"{at_best}, holds the weights but not one sequence's cache; {chips}, or shorter prompts"
