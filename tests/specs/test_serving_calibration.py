"""The serving calibration: at most thirty numbers, by operation, family and engine, all of which something takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.situations import CLUSTERS
from twobills.perf.serving_step import memory_group, product_group
from twobills.specs import catalog
from twobills.specs.engine import LIKE, Engine
from twobills.specs.serving_calibration import (
    FITTED,
    flatten,
    of_engine,
    of_family,
    published_serving_calibration,
    unflatten,
)

PUBLISHED = published_serving_calibration()
VALUES = flatten(PUBLISHED)


def test_it_has_at_most_thirty_numbers_all_above_0() -> None:
    assert len(VALUES) <= 30
    assert all(value > 0 and math.isfinite(value) for value in VALUES.values())
    assert {name.partition(".")[0] for name in VALUES} == set(FITTED)


def test_fractions_are_fractions() -> None:
    """But for kinds of memory, which are relative to another."""
    fractions = {name: value for name, value in VALUES.items() if name.partition(".")[0].endswith("_frac")}
    assert all(value < 1 for name, value in fractions.items() if not name.startswith("memory_frac"))
    assert all(value <= 1.25 for name, value in fractions.items() if name.startswith("memory_frac"))


def test_its_keys_are_families_engines_and_memories_and_never_a_chip_or_a_model() -> None:
    """A key that nothing takes would be a number without effect."""
    chips = [cluster.chip for cluster in CLUSTERS.values()]
    engines = {engine.value for engine in Engine}
    known: dict[str, set[str]] = {
        "product_frac": {product_group(chip) for chip in chips},
        "memory_frac": {memory_group(chip) for chip in chips},
        **dict.fromkeys(("bandwidth_frac", "layer_s", "prompt_wait", "step_s", "sequence_s"), engines),
    }
    for name, keys in known.items():
        assert set(getattr(PUBLISHED, name)) <= keys, name
        assert not set(getattr(PUBLISHED, name)) & (set(catalog.chips()) | set(catalog.models())), name
    assert {name for name in FITTED if isinstance(getattr(PUBLISHED, name), Mapping)} == set(known)


def test_every_class_of_engine_has_every_number() -> None:
    for name in ("bandwidth_frac", "layer_s", "prompt_wait", "step_s", "sequence_s"):
        values = getattr(PUBLISHED, name)
        assert all(of_engine(values, engine) > 0 for engine in Engine), name


def test_an_engine_without_a_number_takes_that_of_the_most_like() -> None:
    assert of_engine({"server": 2.0}, Engine.SINGLE) == 2.0, "by way of native and TensorRT"
    assert of_engine({"server": 2.0, "native": 3.0}, Engine.SINGLE) == 3.0
    assert of_engine({"server": 2.0, "early": 4.0}, Engine.GENERIC) == 4.0
    assert set(LIKE) == set(Engine) - {Engine.SERVER}, "whose numbers must be there"


def test_a_family_that_was_not_fitted_takes_the_geometric_mean() -> None:
    assert of_family({"a": 0.2, "b": 0.8}, "b") == 0.8
    assert of_family({"a": 0.2, "b": 0.8}, "c") == pytest.approx(0.4)


def test_the_flat_form_is_the_whole() -> None:
    assert unflatten(VALUES, PUBLISHED) == PUBLISHED
    doubled = unflatten({name: 2 * value for name, value in VALUES.items()}, PUBLISHED)
    assert doubled == replace(PUBLISHED, **{n: getattr(doubled, n) for n in FITTED})
    assert flatten(doubled) == {name: 2 * value for name, value in VALUES.items()}


def test_it_says_where_it_comes_from_and_how_far_off_it_is() -> None:
    assert PUBLISHED.source
    assert PUBLISHED.as_of
    assert PUBLISHED.log_sigma_unseen > 0
