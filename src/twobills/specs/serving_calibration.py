"""What chips and engines achieve of their data sheets in serving, as fitted to published measurements.

At most thirty numbers, keyed by kind of operation, hardware family and class of engine, never by model, chip or
source. A family or engine that was not among the rows gets the geometric mean of those that were.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingCalibration:
    """Fractions are of the data sheet's figure; seconds are what something costs beside its arithmetic."""

    product_frac: Mapping[str, float]
    """Large 16-bit products, by hardware family."""
    low_precision_frac: float
    """Share of an 8- or 4-bit peak that products reach, relative to the share they reach in 16 bits."""
    attention_frac: float
    """Prompt attention over the causal half, of the 16-bit peak."""
    bandwidth_frac: Mapping[str, float]
    """Memory bandwidth of weights and cache, by class of engine."""
    unpack_frac: float
    """Bandwidth of weights below 8 bits that are unpacked before they multiply, relative to others."""
    layer_s: Mapping[str, float]
    """Each layer of a step: kernels that are too small to be seen, by class of engine."""
    step_s: Mapping[str, float]
    """Each step: scheduling, sampling, launching, by class of engine."""
    sequence_s: Mapping[str, float]
    """Each sequence of a step, by class of engine."""
    link_frac: float
    """Bandwidth of collectives."""
    message_s: float
    """Each collective, for every doubling of its ranks."""
    log_sigma: float
    log_sigma_unseen: float
    source: str
    as_of: str


FITTED = (
    "product_frac",
    "low_precision_frac",
    "attention_frac",
    "bandwidth_frac",
    "unpack_frac",
    "layer_s",
    "step_s",
    "sequence_s",
    "link_frac",
    "message_s",
)


def of(values: Mapping[str, float], key: str) -> float:
    """The value of a family or engine, else the geometric mean of those there are."""
    if key in values:
        return values[key]
    return math.exp(math.fsum(math.log(v) for v in values.values()) / len(values))


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


@cache
def published_serving_calibration() -> ServingCalibration:
    """The calibration that comes with the package. Raises CatalogError if its file is damaged."""
    text = resources.files("twobills.data").joinpath("calibration_serving.toml").read_text(encoding="utf-8")
    try:
        return ServingCalibration(**tomllib.loads(text)["serving"])
    except TypeError as error:
        raise CatalogError(f"calibration_serving.toml: {error}") from None
