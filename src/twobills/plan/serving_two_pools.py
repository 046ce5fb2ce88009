"""Disaggregated serving: one pool of instances reads prompts, another runs sequences, caches cross the links between.

Every decode instance at every batch meets every prefill instance of its chips and formats, in numbers that match their
rates: as many readers as the batch needs. A first token takes the wait for a turn, the reading, the cache's way over
the links (``plan.reading``), the rest of a decoding step and the next. Nothing is gained by looking at systems of half
the chips or less: they are the larger ones' halves. The bill of such a pair is ``plan.disaggregated``'s.
Left out: pools of different chips or formats.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from twobills.counts.layouts import Column
from twobills.plan.pareto import undominated, undominated_of_two
from twobills.plan.reading import reading_speed, readings, transfer_s, wait_s
from twobills.plan.serving_choice import TARGET_UTILIZATION
from twobills.plan.serving_one_pool import Candidates, Running
from twobills.plan.serving_space import Rows, Space, batch_sizes, distinct
from twobills.specs.load import Load

MOST_RUNNING_KEPT = 40
"""Decode batches of one number of chips that are paired, spread over all that are worth it."""
EVERY_POOL_TO = 8
MOST_READING = 0.99
"""Of what the readers take at most, without a rate: where they are fewer than a batch needs, fewer sequences run."""
SPARE_READERS = 2
"""With a rate: as many prefill instances as it takes, or up to so many more, to shorten the queue."""


class _Readers(NamedTuple):
    """Columns: instances that only read prompts."""

    layout: Rows
    prompts: Column
    read_s: Column
    turn_s: Column
    prompts_per_s: Column
    n_chips: Column
    lanes: Column
    """Chips that hold one prompt's cache together."""


class _Able(NamedTuple):
    """Columns: what one instance does a second, and what it could at most."""

    at_batch: Column
    at_most: Column
    n_chips: Column


def disaggregated(space: Space, load: Load, rows: Running, *, tpot_s: float | None) -> list[Candidates]:
    """All pairs of pools worth a look, in tables; ``tpot_s`` is where batches must not be missed."""
    readers = _readers(space, load, rows)
    key = space.layouts.offer * len(space.weights) + space.layouts.weights
    key = key * len(space.kvs) + space.layouts.kv
    found: list[Candidates] = []
    for group in distinct(key):
        reading = np.flatnonzero(key[readers.layout] == group)
        decoding = np.flatnonzero(key[rows.layout] == group)
        found += _pairs(space, load, rows, decoding, _Readers._make(c[reading] for c in readers), tpot_s)
    return found


def _readers(space: Space, load: Load, rows: Running) -> _Readers:
    """Each layout that fits, reading several numbers of prompts at once."""
    most = np.zeros(len(space.layouts.tp))
    most[rows.layout] = rows.most_running
    found = readings(load, space.layouts.dp, most)
    layouts = space.layouts.select(found.instance)
    i = space.instance(layouts)
    speed = reading_speed(space.model, i, space.rates_of(layouts), load, found.prompts)
    return _Readers(found.instance, found.prompts, *speed, i.n_chips, layouts.tp * layouts.pp)


def _pairs(
    space: Space, load: Load, rows: Running, decoding: Rows, readers: _Readers, tpot_s: float | None
) -> Iterator[Candidates]:
    """Pools of one kind of chip in one set of formats."""
    if not len(decoding) or not len(readers.layout):
        return
    offered = space.offers[int(space.layouts.offer[readers.layout[0]])].cluster.n_chips
    costs = np.stack(
        [readers.read_s, readers.n_chips / readers.prompts_per_s, readers.n_chips], axis=1, dtype=np.float64
    )
    reading = np.flatnonzero(undominated(costs))
    decoding = _worth_pairing(space, load, rows, decoding, tpot_s)
    d, r = (grid.ravel() for grid in np.meshgrid(decoding, reading, indexing="ij"))
    per_decoder = rows.batch[d] / rows.alone_s[d] / load.answer_tokens
    decoder = _Able(per_decoder, rows.written_per_s[d], space.layouts.n_chips[rows.layout[d]])
    reader = _Able(readers.prompts_per_s[r], readers.prompts_per_s[r], readers.n_chips[r])
    for n_decoding, n_reading in _matched(load, offered, decoder, reader):
        n_chips = n_decoding * decoder.n_chips + n_reading * reader.n_chips
        kept = np.ones(len(d), dtype=bool)
        if load.requests_per_s is None:
            kept = (n_reading >= 1) & (n_chips <= offered) & (2 * n_chips > offered)
        if kept.any():
            yield _paired(
                space, load, rows, readers, d[kept], r[kept], n_decoding[kept], n_reading[kept], n_chips[kept]
            )


def _matched(load: Load, offered: int, decoder: _Able, reader: _Able) -> Iterator[tuple[Column, Column]]:
    """Numbers of instances of both pools whose rates are close, or that the rate takes."""
    rate = load.requests_per_s
    if rate is not None:
        n_decoding, n_reading = (
            np.ceil(rate / np.minimum(each.at_batch, TARGET_UTILIZATION * each.at_most)) for each in (decoder, reader)
        )
        for spare in range(SPARE_READERS + 1):
            yield n_decoding, n_reading + spare
        fewest = np.ceil(rate / decoder.at_batch), np.floor(rate / reader.at_most) + 1
        too_many = n_decoding * decoder.n_chips + n_reading * reader.n_chips > offered
        enough = fewest[0] * decoder.n_chips + fewest[1] * reader.n_chips <= offered
        if (keep_up := too_many & enough).any():
            yield np.where(keep_up, fewest[0], n_decoding), np.where(keep_up, fewest[1], n_reading)
        return
    for n in _pool_sizes(offered):
        n_decoding = np.full(len(decoder.at_batch), n)
        ratio = n * decoder.at_batch / (MOST_READING * reader.at_batch)
        yield n_decoding, np.ceil(ratio)
        yield n_decoding, np.floor(ratio)


def _pool_sizes(offered: int) -> Column:
    sizes = batch_sizes(max(offered - 1, 1))
    coarse = distinct(np.floor(EVERY_POOL_TO * 1.2 ** np.arange(64)))
    return np.asarray(sizes[(sizes <= EVERY_POOL_TO) | (sizes[:, None] == coarse).any(axis=1)])


def _worth_pairing(space: Space, load: Load, rows: Running, decoding: Rows, tpot_s: float | None) -> Rows:
    """Of each number of chips, batches that no other beats in time and rate: thinned, the last quick enough kept."""
    chips = space.layouts.n_chips[rows.layout[decoding]]
    kept = []
    for n_chips in distinct(chips):
        same = decoding[chips == n_chips]
        time, rate = rows.alone_s[same], rows.batch[same] / rows.alone_s[same] / load.answer_tokens
        front = same[undominated_of_two(np.asarray(time), np.asarray(-rate))]
        places = np.linspace(0, len(front) - 1, min(MOST_RUNNING_KEPT, len(front))).astype(int)
        if tpot_s is not None:
            quick = int(np.searchsorted(rows.alone_s[front], tpot_s, side="right"))
            places = np.append(places, max(quick - 1, 0))
        kept.append(front[distinct(places)])
    return np.concatenate(kept)


def _paired(
    space: Space,
    load: Load,
    rows: Running,
    readers: _Readers,
    d: Rows,
    r: Rows,
    n_decoding: Column,
    n_reading: Column,
    n_chips: Column,
) -> Candidates:
    layout, read_s = rows.layout[d], readers.read_s[r]
    layouts = space.layouts.select(layout)
    able, batch, tpot = n_reading * readers.prompts_per_s[r], rows.batch[d], rows.alone_s[d]
    at_random = load.requests_per_s is not None
    if load.requests_per_s is not None:
        answers: Column = np.full(len(d), load.requests_per_s)
    else:
        written = n_decoding * batch / tpot / load.answer_tokens
        answers = np.minimum(written, MOST_READING * able)
        short = np.flatnonzero(answers < written)  # of prompts
        batch[short], tpot[short] = _running_at(rows, load, d[short], (answers / n_decoding)[short])
    wait = wait_s(answers / able, readers.turn_s[r], readers.prompts[r], at_random=at_random)
    crossing = transfer_s(
        space.model,
        load,
        space.instance(layouts).kv_bytes,
        space.rates_of(layouts),
        lanes=np.minimum(readers.lanes[r], layouts.tp * layouts.pp),
        n_chips=n_chips,
    )
    return Candidates(
        layout=layout,
        batch=batch,
        n_instances=n_decoding,
        reading=readers.layout[r],
        prompts=readers.prompts[r],
        n_reading=n_reading,
        n_chips=n_chips,
        ttft_s=wait + read_s + crossing + 1.5 * tpot,
        tpot_s=tpot,
        answers_per_s=answers,
        most_running=rows.most_running[d],
    )


def _running_at(rows: Running, load: Load, d: Rows, per_s: Column) -> tuple[Column, Column]:
    """Sequences and seconds a step of decode instances (at most at the batch of ``d``) that answer so many a second.

    Between the batches that were timed a step's time is taken as a straight line.
    """
    written = rows.batch / rows.alone_s / load.answer_tokens
    far = 2 * float(written.max())
    keys = np.maximum.accumulate(rows.layout * far + written)
    high = np.minimum(np.searchsorted(keys, rows.layout[d] * far + per_s), d)
    low = np.maximum(high - 1, 0)
    low = np.where(rows.layout[low] == rows.layout[high], low, high)
    width = written[high] - written[low]
    part = np.clip((per_s - written[low]) / np.where(width > 0, width, 1.0), 0.0, 1.0)
    step_s = rows.alone_s[low] + part * (rows.alone_s[high] - rows.alone_s[low])
    return per_s * step_s * load.answer_tokens, step_s
