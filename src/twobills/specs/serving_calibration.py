"""What chips and engines achieve of their data sheets in serving, as fitted to published measurements.

At most thirty numbers, keyed by kind of operation, hardware family and class of engine, never by model, chip or
source. A family that was not among the rows gets the geometric mean of those that were, a class of engine the
number of the class most like it.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from twobills.errors import CatalogError
from twobills.specs.engine import LIKE, Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingCalibration:
    """Fractions are of the data sheet's figure; seconds are what something costs beside its arithmetic."""

    product_frac: Mapping[str, float]
    """Large products, by group of hardware families, of the peak of their format."""
    native_product_frac: float
    """Products of native engines, relative to those of the makers' libraries."""
    attention_frac: float
    """Prompt attention over the causal half, of the 16-bit peak."""
    bandwidth_frac: Mapping[str, float]
    """Memory bandwidth of weights and cache, by class of engine."""
    memory_frac: Mapping[str, float]
    """Bandwidth by kind of memory or vendor group, relative to HBM under CUDA."""
    layer_s: Mapping[str, float]
    """Each layer of a step: kernels that are too small to be seen, by class of engine."""
    prompt_layer_s: float
    """Each layer of a step that holds a prompt besides: such steps are not replayed from a captured graph."""
    prompt_wait: Mapping[str, float]
    """How many times as long as alone a waiting client's prompt takes, by class of engine: prompts come in clumps."""
    step_s: Mapping[str, float]
    """Each step: scheduling, sampling, launching, by class of engine."""
    sequence_s: Mapping[str, float]
    """Each sequence of a step, by class of engine."""
    link_frac: float
    """Bandwidth of collectives."""
    message_s: float
    """Each collective, for every doubling of its ranks."""
    log_sigma: Mapping[str, float]
    """Standard deviation of ln(actual / forecast) by class of engine, between that of rows fitted and of rows whose
    source was left out; no parameters."""
    log_sigma_unseen: float
    """The same of all rows of a source left out: for a hardware family that was not fitted."""
    source: str
    as_of: str


FITTED = (
    "product_frac",
    "native_product_frac",
    "attention_frac",
    "bandwidth_frac",
    "memory_frac",
    "layer_s",
    "prompt_layer_s",
    "prompt_wait",
    "step_s",
    "sequence_s",
    "link_frac",
    "message_s",
)


def of_family(values: Mapping[str, float], family: str) -> float:
    """The value of a hardware family, else the geometric mean of those there are."""
    if family in values:
        return values[family]
    return math.exp(math.fsum(math.log(v) for v in values.values()) / len(values))


def of_engine(values: Mapping[str, float], engine: Engine) -> float:
    """The value of a class of engine, else of the class most like it."""
    while engine not in values:
        engine = LIKE[engine]
    return values[engine]


def flatten(calibration: ServingCalibration) -> dict[str, float]:
    """The fitted numbers by dotted name."""
    found: dict[str, float] = {}
    for name in FITTED:
        value = getattr(calibration, name)
        found |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {name: value}
    return found


def unflatten(values: Mapping[str, float], like: ServingCalibration) -> ServingCalibration:
    """A calibration of these numbers, what is not fitted taken from ``like``."""
    fields: dict[str, Any] = {n: getattr(like, n) for n in ("log_sigma", "log_sigma_unseen", "source", "as_of")}
    for name, value in values.items():
        head, _, key = name.partition(".")
        if key:
            fields.setdefault(head, {})[key] = value
        else:
            fields[head] = value
    return ServingCalibration(**fields)


def sigma_of(calibration: ServingCalibration, engine: Engine, family: str) -> float:
    """Standard deviation of ln(actual / forecast) to expect of an engine on a group of hardware families."""
    own = of_engine(calibration.log_sigma, engine)
    return own if family in calibration.product_frac else max(own, calibration.log_sigma_unseen)


@cache
def published_serving_calibration() -> ServingCalibration:
    """The calibration that comes with the package. Raises CatalogError if its file is damaged."""
    text = resources.files("twobills.data").joinpath("calibration_serving.toml").read_text(encoding="utf-8")
    try:
        return ServingCalibration(**tomllib.loads(text)["serving"])
    except TypeError as error:
        raise CatalogError(f"calibration_serving.toml: {error}") from None
