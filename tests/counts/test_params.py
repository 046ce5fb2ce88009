"""Counts against the totals that models' makers published."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.counts.params import count_params
from twobills.specs import catalog
from twobills.specs.model import ModelSpec

MODELS = catalog.models()
ROWS: dict[str, dict[str, Any]] = dict(catalog.read_rows("models"))
EXACT_BELOW = 1_000_000
"""A published total whose last digit stands for less is meant to the parameter."""


def last_digit(published: int) -> int:
    """What the last digit of a figure that is not 0 stands for: 7_300_000_000 is given to 100 million."""
    unit = 1
    while published % (10 * unit) == 0:
        unit *= 10
    return unit


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if "published_params" in row])
def test_parameters_are_the_published_total(name: str) -> None:
    """To the parameter where it is given so, to rounding where it is rounded, to 0.1 % where the row says why."""
    row, total = ROWS[name], count_params(MODELS[name]).total
    published = row["published_params"]
    if "published_note" in row:
        assert total == pytest.approx(published, rel=1e-3)
    elif last_digit(published) < EXACT_BELOW:
        assert total == published
    else:
        assert abs(total - published) <= last_digit(published) / 2


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if "published_active" in row])
def test_active_parameters_are_the_published_figure(name: str) -> None:
    """Within one of its last digit, with the embedding table or without: sources do either."""
    params, published = count_params(MODELS[name]), ROWS[name]["published_active"]
    counted = (params.active, params.active - params.embedding)
    assert min(abs(active - published) for active in counted) <= last_digit(published)


def test_the_catalogue_is_wide() -> None:
    assert len(MODELS) >= 45
    assert len({model.family for model in MODELS.values()}) >= 15


@given(st.sampled_from(sorted(MODELS)), st.integers(1, 40))
def test_layers_only_add(name: str, more: int) -> None:
    model = MODELS[name]
    few, many = count_params(model), count_params(replace(model, n_layers=model.n_layers + more))
    assert many.total > few.total
    assert many.active > few.active
    assert many.matmul_active > few.matmul_active
    assert (many.embedding, many.head) == (few.embedding, few.head)


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda m: m.name)
def test_parts_make_the_whole(model: ModelSpec) -> None:
    params = count_params(model)
    assert params.active <= params.total
    assert (params.active == params.total) == (model.moe is None)
    own_head = 0 if model.tied_embeddings else params.head
    assert params.total == params.embedding + own_head + params.layer_matmul + params.small


def test_llama_2_7b_by_hand() -> None:
    """32 layers of 4·4096² + 3·4096·11008, head and table of 32000·4096 each."""
    params = count_params(MODELS["llama-2-7b"])
    assert params.layer_matmul == params.active_layer_matmul == 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    assert params.matmul == params.matmul_active == params.layer_matmul + 32000 * 4096
    assert params.non_embedding == params.total - 2 * 32000 * 4096


def test_mixtral_by_hand() -> None:
    """Of eight experts of 3·4096·14336 two are active in each of 32 layers."""
    params = count_params(MODELS["mixtral-8x7b"])
    assert params.total - params.active == 32 * 6 * 3 * 4096 * 14336
    assert params.matmul - params.matmul_active == params.total - params.active
