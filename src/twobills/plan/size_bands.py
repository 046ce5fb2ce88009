"""How sure a size is: where 90 % of the draws put it, from the law's covariance and from the forecasts' errors.

Each draw is a law, which has its own curve of equal loss, with one factor on all training and one on all serving; the
best size is then chosen anew. Left out: that the law's *form* may be wrong beyond what it was fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from twobills.laws.isoloss import (
    FORWARD_FLOPS,
    TRAIN_FLOPS,
    Columns,
    Laws,
    best_sizes,
    demand_of,
    tokens_needed,
)
from twobills.laws.quality import Quality
from twobills.plan.interval import Spread
from twobills.plan.size import SizeTable

_Z95 = 1.6448536269514722
N_UNDRAWN = 2000


class Band(NamedTuple):
    """5th and 95th percentile; None where there is none, or no end."""

    p5: float | None
    p95: float | None


NO_BAND = Band(None, None)


def flop_bands(laws: Laws | None, quality: Quality, inference_tokens: float) -> dict[str, Band]:
    """Of the best size in FLOPs; no draws, no bands."""
    names = ("n_params", "n_tokens", "tokens_per_param", "train_flops", "inference_flops", "total_flops")
    if laws is None:
        return dict.fromkeys(names, NO_BAND)
    n_params, n_tokens = best_sizes(laws, quality.target(laws), inference_tokens)
    training, inference = TRAIN_FLOPS * n_params * n_tokens, FORWARD_FLOPS * n_params * inference_tokens
    found = (n_params, n_tokens, n_tokens / n_params, training, inference, training + inference)
    return {name: band(column) for name, column in zip(names, found, strict=True)}


def dollar_bands(
    table: SizeTable,
    pairs: Sequence[int],
    laws: Laws | None,
    quality: Quality,
    training: Spread,
    serving: Spread,
    *,
    seed: int = 0,
) -> dict[str, Band]:
    """Of the best size in dollars; sizes and tokens have none where the law has no covariance."""
    tokens = table.n_tokens[None, :] if laws is None else tokens_needed(laws, table.n_params, quality.target(laws))
    n_draws = N_UNDRAWN if laws is None else len(tokens)
    normal = np.random.default_rng(seed).standard_normal((2, n_draws, 1))
    factors = [_factors(spread, z) for spread, z in zip((training, serving), normal, strict=True)]
    cost = table.train_usd_per_token.min(axis=1)
    with np.errstate(invalid="ignore"):
        train_usd = np.nan_to_num(cost * tokens * factors[0], nan=np.inf, posinf=np.inf)
    serve_usd = table.serve_usd[:, list(pairs)].min(axis=1) * factors[1]
    best, rows = np.argmin(train_usd + serve_usd, axis=1), np.arange(n_draws)
    found = {
        "train_usd": train_usd[rows, best],
        "inference_usd": serve_usd[rows, best],
        "total_usd": (train_usd + serve_usd)[rows, best],
    }
    if laws is None:
        sizes = dict.fromkeys(("n_params", "n_tokens", "tokens_per_param"), NO_BAND)
    else:
        n_params, n_tokens = table.n_params[best], tokens[rows, best]
        columns = {"n_params": n_params, "n_tokens": n_tokens, "tokens_per_param": n_tokens / n_params}
        sizes = {name: band(column) for name, column in columns.items()}
    return {**sizes, **{name: band(column) for name, column in found.items()}}


def demand_bands(laws: Laws | None, quality: Quality, n_params: float, n_tokens: float) -> dict[str, Band]:
    """Of the tokens read and answered from which a known model pays, and for which it is the best of its loss."""
    if laws is None:
        return {"pays_from_tokens": NO_BAND, "best_at_tokens": NO_BAND}
    best = best_sizes(laws, quality.target(laws), 0.0)
    pays = pays_from_tokens(n_params, n_tokens, best.n_params, best.n_tokens)
    return {"pays_from_tokens": band(pays), "best_at_tokens": band(demand_of(laws, n_params, n_tokens))}


def pays_from_tokens(n_params: Any, n_tokens: Any, best_params: Any, best_tokens: Any) -> Columns:
    """Tokens read and answered from which the smaller model has repaid its longer training, in FLOPs; inf for never."""
    extra = TRAIN_FLOPS * (n_params * n_tokens - best_params * best_tokens)
    saved = FORWARD_FLOPS * (best_params - n_params)
    return np.asarray(np.where(saved > 0, extra / np.where(saved > 0, saved, 1.0), np.inf))


def band(column: Any) -> Band:
    """Of draws; one that has no figure counts as endless."""
    values = np.where(np.isnan(column), np.inf, column)
    low, high = np.quantile(values.ravel(), (0.05, 0.95), method="nearest")
    return Band(*(float(x) if math.isfinite(x) else None for x in (low, high)))


def _factors(spread: Spread, normal: Columns) -> Columns:
    """Log-normal on each side of 1, as far as the spread says."""
    below, above = (math.log(end) / _Z95 for end in spread)
    return np.asarray(np.exp(normal * np.where(normal < 0, -below, above)))
