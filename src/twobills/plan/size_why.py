"""Why dollars want another size than FLOPs: what a FLOP of each job costs, and how each bill moves with the size.

A FLOP is not a price. Training multiplies large matrices; reading prompts does so too; writing answers waits for
memory, so that each of its FLOPs costs more. And serving does not shrink in proportion to the size: caches, layers and
whole machines stay. Both are read off the priced table, so the words follow the figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from twobills.laws.forms import Law
from twobills.laws.isoloss import FORWARD_FLOPS, TRAIN_FLOPS, Columns, best_sizes
from twobills.plan.size import Choice, SizeTable
from twobills.plan.size_costs import Service
from twobills.units import show_count, significant

AGREE_FRAC = 0.05
"""Sizes nearer to each other than this agree."""
_SLOPE_FACTOR = 1.25
"""Slopes are taken over sizes from 1/1.25 to 1.25 of the best."""
_WAITING = 1.25
"""A FLOP of writing dearer by this than one of reading is put down to memory."""


class Why(NamedTuple):
    """What lies between the two sizes."""

    disagree: bool
    usd_per_train_flop: float
    usd_per_prompt_flop: float | None
    usd_per_answer_flop: float | None
    serve_over_train: float | None
    """What a FLOP of serving costs, of one of training."""
    weighted_n_params: float | None
    """The best size in FLOPs if each FLOP of serving counted for so many of training."""
    train_slope: float | None
    """Per cent of a training FLOP's price for each per cent of the size; 0 where it does not move."""
    serve_slope: float | None
    """Per cent of the serving bill for each per cent of the size; 1 in FLOPs."""
    flop_machine_chips: int | None
    """Chips of a machine that serves the size that FLOPs want."""
    machine_chips: int
    words: tuple[str, ...]


def why(law: Law, target_loss: float, service: Service, table: SizeTable, choice: Choice, flop_params: float) -> Why:
    """What lies between the best size in dollars and that in FLOPs."""
    n_params = float(table.n_params[choice.size])
    way = table.served[choice.size][choice.pair]
    assert way is not None
    train = choice.train_usd / (TRAIN_FLOPS * n_params * choice.n_tokens)
    prompt, answer, ratio, weighted = None, None, None, None
    if service.n_answers and choice.serve_usd:
        per_token = FORWARD_FLOPS * n_params * service.n_answers
        prompt = choice.serve_usd * way.prompt_share / (per_token * service.prompt_tokens)
        answer = choice.serve_usd * (1 - way.prompt_share) / (per_token * service.answer_tokens * service.n_samples)
        ratio = choice.serve_usd / (FORWARD_FLOPS * n_params * service.tokens) / train if train else None
    if ratio:
        weighted = float(best_sizes(law, target_loss, ratio * service.tokens).n_params)
    near = (table.n_params > n_params / _SLOPE_FACTOR) & (table.n_params < n_params * _SLOPE_FACTOR)
    per_flop = table.train_usd_per_token[:, choice.offer] / (TRAIN_FLOPS * table.n_params)
    at = int(np.argmin(np.abs(np.log(table.n_params / flop_params))))
    there = table.served[at][choice.pair]
    found = Why(
        disagree=abs(math.log(n_params / flop_params)) > AGREE_FRAC,
        usd_per_train_flop=train,
        usd_per_prompt_flop=prompt,
        usd_per_answer_flop=answer,
        serve_over_train=ratio,
        weighted_n_params=weighted,
        train_slope=_slope(table.n_params[near], per_flop[near]),
        serve_slope=_slope(table.n_params[near], table.serve_usd[near, choice.pair]) if ratio else None,
        flop_machine_chips=there.machine_chips if there else None,
        machine_chips=way.machine_chips,
        words=(),
    )
    return found._replace(words=tuple(_words(found, n_params, flop_params)))


def _slope(sizes: Columns, usd: Columns) -> float | None:
    good = np.isfinite(usd) & (usd > 0)
    if good.sum() < 3:
        return None
    x, y = np.log(sizes[good]), np.log(usd[good])
    return float(np.sum((x - x.mean()) * (y - y.mean())) / np.sum((x - x.mean()) ** 2))


def _words(found: Why, n_params: float, flop_params: float) -> Iterator[str]:
    sizes = f"{show_count(n_params)} parameters in dollars, {show_count(flop_params)} in FLOPs"
    if not found.disagree:
        yield f"dollars and FLOPs agree within 5 %: {sizes}"
    else:
        yield f"{sizes}: dollars want the {'smaller' if n_params < flop_params else 'larger'} model"
    if found.serve_over_train is not None:
        yield from _price_words(found, flop_params)
    if found.serve_slope is not None:
        yield (
            f"around that size 1 % fewer parameters make the serving bill {significant(found.serve_slope, 2)} % "
            f"smaller (1 % in FLOPs): {_serve_reason(found.serve_slope)}"
        )
    if found.train_slope is not None and abs(found.train_slope) > AGREE_FRAC:
        more = "less" if found.train_slope < 0 else "more"
        yield (
            f"a training FLOP costs {significant(abs(found.train_slope), 2)} % {more} for each 1 % more parameters: "
            "how many chips share the run, and how long it goes, changes with the size"
        )
    if found.flop_machine_chips is not None and found.flop_machine_chips != found.machine_chips:
        yield (
            f"a step in memory: a machine for the size that FLOPs want takes {found.flop_machine_chips} chips, for "
            f"this one {found.machine_chips}"
        )


def _price_words(found: Why, flop_params: float) -> Iterator[str]:
    ratio = found.serve_over_train or 0.0
    parts = ""
    if found.usd_per_answer_flop is not None and found.usd_per_prompt_flop is not None:
        reading, writing = (
            significant(usd / found.usd_per_train_flop, 2)
            for usd in (found.usd_per_prompt_flop, found.usd_per_answer_flop)
        )
        waits = ", which waits for memory" if found.usd_per_answer_flop > _WAITING * found.usd_per_prompt_flop else ""
        parts = f" (reading prompts {reading}, writing answers {writing}{waits})"
    yield f"a FLOP of serving costs {significant(ratio, 2)} times one of training{parts}"
    if found.weighted_n_params is not None:
        moved = "smaller" if found.weighted_n_params < flop_params else "larger"
        yield f"that ratio alone makes {show_count(found.weighted_n_params)} parameters the best, {moved} than FLOPs"


def _serve_reason(slope: float) -> str:
    if slope < 1 - AGREE_FRAC:
        return "caches, per-layer work and whole machines do not shrink with it, which speaks for a larger model"
    if slope > 1 + AGREE_FRAC:
        return "memory that is freed holds more sequences at once, which speaks for a smaller model"
    return "about as in FLOPs"
