"""Disaggregated serving: one pool of instances reads prompts, another runs sequences, caches cross the links between.

Every decode instance at every batch meets every prefill instance of its chips and formats, in numbers that match their
rates. A first token takes the wait for the prompts being read, the reading, the cache's way over the links and one
decoding step. Nothing is gained by looking at systems of half the chips or less: they are the larger ones' halves.
Left out: pools of different chips or formats, a transfer beside the reading (layer by layer), transfers' own queue.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.counts.layouts import Column
from twobills.counts.serving_step import Situations, kv_cache_bytes, serving_step
from twobills.perf.serving_step import serving_step_s
from twobills.plan.pareto import undominated, undominated_of_two
from twobills.plan.serving_one_pool import Candidates, Running, queue_s
from twobills.plan.serving_space import Rows, Space, batch_sizes
from twobills.plan.steady import MOST_STEP_TOKENS
from twobills.specs.load import Load

PROMPTS_AT_ONCE = (1, 2, 4, 8, 16)
"""On each rank, as far as they are no more tokens than an engine reads in one step; a longer prompt is read alone."""
MOST_RUNNING_KEPT = 40
"""Decode batches of one number of chips that are paired, spread over all that are worth it."""
EVERY_POOL_TO = 8
SPARE_READERS = 2
"""With a rate: as many prefill instances as it takes, or up to so many more, to shorten the queue."""


class _Readers(NamedTuple):
    """Columns: instances that only read prompts."""

    layout: Rows
    prompts: Column
    read_s: Column
    prompts_per_s: Column
    n_chips: Column
    lanes: Column
    """Chips that hold one prompt's cache together."""


def disaggregated(space: Space, load: Load, rows: Running, *, tpot_s: float | None) -> list[Candidates]:
    """All pairs of pools worth a look, in tables; ``tpot_s`` is where batches must not be missed."""
    readers = _readers(space, load, rows)
    key = space.layouts.offer * len(space.weights) + space.layouts.weights
    key = key * len(space.kvs) + space.layouts.kv
    found: list[Candidates] = []
    for group in np.unique(key):
        reading = np.flatnonzero(key[readers.layout] == group)
        decoding = np.flatnonzero(key[rows.layout] == group)
        found += _pairs(space, load, rows, decoding, _Readers._make(c[reading] for c in readers), tpot_s)
    return found


def transfer_s(space: Space, load: Load, layout: Rows, lanes: Column, n_chips: Column) -> Column:
    """Seconds for one prompt's cache from pool to pool: fast links where they join all chips, else the network."""
    layouts = space.layouts.select(layout)
    rates, kv_bytes = space.rates_of(layouts), space.instance(layouts).kv_bytes
    n_bytes = kv_cache_bytes(space.model, load.prompt_tokens, kv_bytes)
    per_lane = np.where(n_chips <= rates.n_fast, rates.fast_bytes_per_s, rates.slow_bytes_per_s)
    return np.asarray(n_bytes / (lanes * per_lane))


def _readers(space: Space, load: Load, rows: Running) -> _Readers:
    """Each layout that fits, reading several numbers of prompts at once."""
    most = np.zeros(len(space.layouts.tp))
    most[rows.layout] = rows.most_running
    layout = np.repeat(np.flatnonzero(most >= 1), len(PROMPTS_AT_ONCE))
    layouts = space.layouts.select(layout)
    prompts = np.tile(np.array(PROMPTS_AT_ONCE, dtype=np.float64), len(layout) // len(PROMPTS_AT_ONCE)) * layouts.dp
    kept = (prompts <= most[layout]) & _in_one_step(load, prompts / layouts.dp)
    layout, prompts, layouts = layout[kept], prompts[kept], layouts.select(kept)
    i = space.instance(layouts)
    nobody = np.zeros(len(layout))
    tokens = prompts * load.prompt_tokens * (1 - load.cached_frac)
    situation = Situations(
        i.tp, i.pp, i.ep, i.dp, i.weight_bytes, i.kv_bytes, nobody, nobody + 1, tokens, nobody + load.prompt_tokens
    )
    read_s = serving_step_s(serving_step(space.model, situation), space.rates_of(layouts))
    per_s = prompts * i.pp / read_s
    return _Readers(layout, prompts, read_s, per_s, i.n_chips, layouts.tp * layouts.pp)


def _in_one_step(load: Load, prompts: Column) -> NDArray[np.bool_]:
    tokens = prompts * load.prompt_tokens * (1 - load.cached_frac)
    return np.asarray((prompts == 1) | (tokens <= MOST_STEP_TOKENS))


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
    per_reader = readers.prompts_per_s[r]
    for n_decoding, n_reading in _matched(load, offered, per_decoder, per_reader):
        decoder_chips = space.layouts.n_chips[rows.layout[d]]
        n_chips = n_decoding * decoder_chips + n_reading * readers.n_chips[r]
        kept = np.ones(len(d), dtype=bool)
        if load.requests_per_s is None:
            kept = (n_reading >= 1) & (n_chips <= offered) & (2 * n_chips > offered)
        if kept.any():
            yield _paired(
                space, load, rows, readers, d[kept], r[kept], n_decoding[kept], n_reading[kept], n_chips[kept]
            )


def _matched(load: Load, offered: int, decoder: Column, reader: Column) -> Iterator[tuple[Column, Column]]:
    """Numbers of instances of both pools whose rates are close, or that the rate takes."""
    if load.requests_per_s is not None:
        for spare in range(SPARE_READERS + 1):
            yield np.ceil(load.requests_per_s / decoder), np.ceil(load.requests_per_s / reader) + spare
        return
    for n in _pool_sizes(offered):
        n_decoding = np.full(len(decoder), n)
        ratio = n * decoder / reader
        yield n_decoding, np.ceil(ratio)
        yield n_decoding, np.floor(ratio)


def _pool_sizes(offered: int) -> Column:
    sizes = batch_sizes(max(offered - 1, 1))
    coarse = np.unique(np.floor(EVERY_POOL_TO * 1.2 ** np.arange(64)))
    return np.asarray(sizes[(sizes <= EVERY_POOL_TO) | np.isin(sizes, coarse)])


def _worth_pairing(space: Space, load: Load, rows: Running, decoding: Rows, tpot_s: float | None) -> Rows:
    """Of each number of chips, batches that no other beats in time and rate: thinned, the last quick enough kept."""
    chips = space.layouts.n_chips[rows.layout[decoding]]
    kept = []
    for n_chips in np.unique(chips):
        same = decoding[chips == n_chips]
        time, rate = rows.alone_s[same], rows.batch[same] / rows.alone_s[same] / load.answer_tokens
        front = same[undominated_of_two(np.asarray(time), np.asarray(-rate))]
        places = np.linspace(0, len(front) - 1, min(MOST_RUNNING_KEPT, len(front))).astype(int)
        if tpot_s is not None:
            quick = int(np.searchsorted(rows.alone_s[front], tpot_s, side="right"))
            places = np.append(places, max(quick - 1, 0))
        kept.append(front[np.unique(places)])
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
    able = n_reading * readers.prompts_per_s[r]
    tpot = rows.alone_s[d]
    if load.requests_per_s is None:
        answers: Column = np.minimum(able, n_decoding * rows.batch[d] / tpot / load.answer_tokens)
        wait: Column = answers / able * read_s / 2
    else:
        answers = np.full(len(d), load.requests_per_s)
        wait = queue_s(answers / able, read_s)
    lanes = np.minimum(readers.lanes[r], layouts.tp * layouts.pp)
    return Candidates(
        layout=layout,
        batch=rows.batch[d],
        n_instances=n_decoding,
        reading=readers.layout[r],
        prompts=readers.prompts[r],
        n_reading=n_reading,
        n_chips=n_chips,
        ttft_s=wait + read_s + transfer_s(space, load, layout, lanes, n_chips) + tpot,
        tpot_s=tpot,
        answers_per_s=answers,
        most_running=rows.most_running[d],
    )
