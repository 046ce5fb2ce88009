"""The size that costs least for a quality and a life of answers, in dollars: each size, chip and format priced.

Sizes lie on the law's curve of equal loss (``laws.isoloss``) from just above the smallest that can reach it to twice
the one that is cheapest to train; each is a real shape (Llama 3's proportions), and its own parameters are what
counts. A size is planned once on each kind of chip, at the data that the quality takes; a run of other data is as many
more or fewer of the same steps, so the grid over data is exact in its steps and takes failures in proportion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.counts.llama_shape import LEAST_PARAMS, MOST_PARAMS, llama_shape
from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.laws.forms import Law
from twobills.laws.isoloss import Columns, losses, tokens_needed
from twobills.laws.optimum import optimum_for_loss, smallest_params
from twobills.plan.size_costs import ServedSize, ServeOffer, Service, TrainOffer, TrainTerms, paid_days, served, trained
from twobills.plan.training import RunPlan
from twobills.specs.model import ModelSpec
from twobills.specs.weight_format import WeightFormat
from twobills.units import show_count

N_SIZES = 72
GRID_POINTS = 100_000
NEAR_FRAC = 0.05
"""Sizes whose bill is within this share of the best's are as good as it."""
_ABOVE_SMALLEST, _BEYOND_OPTIMUM = 0.01, 2.0
"""Logarithm of the first size over the smallest that reaches the loss; the last over the cheapest to train."""
_GRID_TOKENS_FACTOR = 4.0
_N_REFINED = 8


class Question(NamedTuple):
    """A quality, a life, and chips for both."""

    law: Law
    target_loss: float
    service: Service
    train: tuple[TrainOffer, ...]
    terms: TrainTerms
    serve: tuple[ServeOffer, ...]

    @property
    def pairs(self) -> list[tuple[int, WeightFormat]]:
        """Serving offer and format of each column of what serving costs."""
        return [(i, each) for i, offer in enumerate(self.serve) for each in offer.weights]


class SizeTable(NamedTuple):
    """Sizes, smallest first, with what each costs; inf where it does not fit."""

    models: tuple[ModelSpec, ...]
    n_params: Columns
    n_tokens: Columns
    """That the quality takes."""
    runs: tuple[tuple[RunPlan | None, ...], ...]
    """Of each size on each offer."""
    served: tuple[tuple[ServedSize | None, ...], ...]
    """Of each size, on each pair of offer and format."""
    train_usd_per_token: Columns
    """(sizes, offers)"""
    serve_usd: Columns
    """(sizes, pairs)"""
    refused: tuple[str, ...]
    """Why sizes were left out, each reason once."""


class Choice(NamedTuple):
    """One size on one kind of chip for each job in one format."""

    size: int
    offer: int
    pair: int
    n_tokens: float
    train_usd: float
    serve_usd: float

    @property
    def total_usd(self) -> float:
        """Both bills."""
        return self.train_usd + self.serve_usd


class Grid(NamedTuple):
    """Losses and dollars of every (N, D, chips, format)."""

    loss: Columns
    """(sizes, tokens)"""
    usd: Columns
    """(sizes, tokens, offers, pairs)"""
    n_tokens: Columns
    """(sizes, tokens)"""

    @property
    def n_points(self) -> int:
        """Combinations that were priced."""
        return int(self.usd.size)


class FrontierPoint(NamedTuple):
    """The cheapest model of the grid that is at least so good."""

    loss: float
    n_params: float
    n_tokens: float
    total_usd: float


def ladder(law: Law, target_loss: float, n_sizes: int = N_SIZES) -> list[ModelSpec]:
    """Shapes along the curve of equal loss, closer together near its steep end. Raises SpecError if none has it."""
    least = smallest_params(law, target_loss)
    most = optimum_for_loss(law, target_loss).n_params * _BEYOND_OPTIMUM
    if least > MOST_PARAMS:
        raise SpecError(f"loss={target_loss:g}: by {law.name} it takes more than {show_count(least)} parameters")
    if most < 2 * LEAST_PARAMS:
        raise SpecError(
            f"loss={target_loss:g}: by {law.name} {show_count(most / 2)} parameters are the cheapest to train, fewer "
            "than a language model has; ask for a lower loss"
        )
    steps = np.linspace(math.sqrt(_ABOVE_SMALLEST), math.sqrt(math.log(most / least)), n_sizes) ** 2
    return shapes(least * np.exp(steps))


def shapes(sizes: Columns | Sequence[float]) -> list[ModelSpec]:
    """Llama's proportions at these sizes, those left out that are no model's; each shape once."""
    found = {llama_shape(float(n)): None for n in sizes if LEAST_PARAMS <= n <= MOST_PARAMS}
    return list(found)


def size_table(asked: Question, models: Sequence[ModelSpec]) -> SizeTable:
    """Each of the models that can reach the loss, trained to it and served. Raises SpecError where none can be had."""
    n_params = np.array([float(count_params(model).active) for model in models])
    n_tokens = tokens_needed(asked.law, n_params, asked.target_loss)
    order = [int(i) for i in np.argsort(n_params, kind="stable") if np.isfinite(n_tokens[i])]
    if not order:
        tokens_for = show_count(smallest_params(asked.law, asked.target_loss))
        raise SpecError(f"loss={asked.target_loss:g}: reached by none of these sizes; it takes more than {tokens_for}")
    refused: dict[str, None] = {}
    days = paid_days(asked.service.life)
    runs = [_runs(asked, models[i], float(n_tokens[i]), refused) for i in order]
    ways = [
        [way for of_offer in served(models[i], asked.serve, asked.service, days) for way in of_offer] for i in order
    ]
    per_token = [
        [run.bill.total_usd / float(n_tokens[i]) if run else math.inf for run in row]
        for i, row in zip(order, runs, strict=True)
    ]
    return SizeTable(
        models=tuple(models[i] for i in order),
        n_params=n_params[order],
        n_tokens=n_tokens[order],
        runs=tuple(runs),
        served=tuple(tuple(row) for row in ways),
        train_usd_per_token=np.array(per_token),
        serve_usd=np.array([[way.usd if way else math.inf for way in row] for row in ways]),
        refused=tuple(refused),
    )


def joined(one: SizeTable, other: SizeTable) -> SizeTable:
    """Both tables as one, smallest size first."""
    order = np.argsort(np.concatenate([one.n_params, other.n_params]), kind="stable")

    def mixed(name: str) -> Any:
        rows = [*getattr(one, name), *getattr(other, name)]
        return tuple(rows[i] for i in order)

    def stacked(name: str) -> Columns:
        return np.asarray(np.concatenate([getattr(one, name), getattr(other, name)])[order])

    return SizeTable(
        models=mixed("models"),
        n_params=stacked("n_params"),
        n_tokens=stacked("n_tokens"),
        runs=mixed("runs"),
        served=mixed("served"),
        train_usd_per_token=stacked("train_usd_per_token"),
        serve_usd=stacked("serve_usd"),
        refused=tuple(dict.fromkeys([*one.refused, *other.refused])),
    )


def totals(table: SizeTable, n_tokens: Columns, pairs: Sequence[int]) -> Columns:
    """Dollars of (sizes, offers, pairs) at so many tokens for each size."""
    training = table.train_usd_per_token * n_tokens[:, None]
    return np.asarray(training[:, :, None] + table.serve_usd[:, None, list(pairs)])


def cheapest(
    table: SizeTable,
    pairs: Sequence[int],
    *,
    n_tokens: Columns | None = None,
    usd_per_token: float = 0.0,
) -> Choice | None:
    """The cheapest size, chips and format of these pairs; None where nothing can be had.

    ``n_tokens``: that each size takes, if not those of the table; ``usd_per_token``: what each costs beside training.
    """
    tokens = table.n_tokens if n_tokens is None else n_tokens
    found = totals(table, tokens, pairs)
    with np.errstate(invalid="ignore"):
        found = found + usd_per_token * tokens[:, None, None]
    found = np.where(np.isnan(found), np.inf, found)
    if not np.isfinite(found).any():
        return None
    size, offer, pair = (int(i) for i in np.unravel_index(int(np.argmin(found)), found.shape))
    serving = float(table.serve_usd[size, pairs[pair]])
    return Choice(size, offer, pairs[pair], float(tokens[size]), float(found[size, offer, pair]) - serving, serving)


def refined(asked: Question, table: SizeTable, pairs: Sequence[int]) -> SizeTable:
    """The table with more sizes around its cheapest."""
    best = cheapest(table, pairs)
    if best is None:
        return table
    low, high = max(best.size - 1, 0), min(best.size + 1, len(table.n_params) - 1)
    between = np.geomspace(table.n_params[low], table.n_params[high], _N_REFINED + 2)[1:-1]
    known = set(table.models)
    more = [shape for shape in shapes(between) if shape not in known]
    if not more:
        return table
    try:
        return joined(table, size_table(asked, more))
    except SpecError:
        return table


def grid(asked: Question, table: SizeTable, n_points: int = GRID_POINTS) -> Grid:
    """Every size at data from a quarter to four times what the quality takes, on every chip, in every format."""
    per_tokens = table.train_usd_per_token.size * table.serve_usd.shape[1]
    factors = np.geomspace(1 / _GRID_TOKENS_FACTOR, _GRID_TOKENS_FACTOR, max(2, math.ceil(n_points / per_tokens)))
    n_tokens = table.n_tokens[:, None] * factors
    training = table.train_usd_per_token[:, None, :, None] * n_tokens[:, :, None, None]
    return Grid(
        loss=losses(asked.law, table.n_params[:, None], n_tokens),
        usd=training + table.serve_usd[:, None, None, :],
        n_tokens=n_tokens,
    )


def frontier(table: SizeTable, found: Grid, pairs: Sequence[int], levels: Sequence[float]) -> list[FrontierPoint]:
    """For each loss the cheapest point of the grid that is no worse; losses that no point has are left out."""
    usd = found.usd[:, :, :, list(pairs)].min(axis=(2, 3))
    points = []
    for level in levels:
        able = np.where(found.loss <= level, usd, np.inf)
        size, tokens = np.unravel_index(int(np.argmin(able)), able.shape)
        if np.isfinite(able[size, tokens]):
            n_tokens, usd_here = float(found.n_tokens[size, tokens]), float(able[size, tokens])
            points.append(FrontierPoint(level, float(table.n_params[size]), n_tokens, usd_here))
    return points


def near_best(sizes: Columns, usd: Columns) -> tuple[float, float]:
    """Smallest and largest size within ``NEAR_FRAC`` of the cheapest, without a dearer one between it and them."""
    best, good = int(np.argmin(usd)), usd <= usd.min() * (1 + NEAR_FRAC)
    low, high = best, best
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(usd) - 1 and good[high + 1]:
        high += 1
    return float(sizes[low]), float(sizes[high])


def by_size(table: SizeTable, pairs: Sequence[int]) -> NDArray[np.float64]:
    """Dollars of each size at its cheapest."""
    return np.asarray(totals(table, table.n_tokens, pairs).min(axis=(1, 2)))


def _runs(asked: Question, model: ModelSpec, n_tokens: float, refused: dict[str, None]) -> tuple[RunPlan | None, ...]:
    found: list[RunPlan | None] = []
    for offer in asked.train:
        try:
            found.append(trained(model, n_tokens, offer, asked.terms))
        except SpecError as reason:
            refused[str(reason)] = None
            found.append(None)
    return tuple(found)
