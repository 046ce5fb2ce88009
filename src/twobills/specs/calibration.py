"""What chips and software achieve of their data sheets, as fitted to published training throughput.

At most fifteen numbers, keyed by kind of operation, hardware family and software stack, never by model, chip or
source. ``data/calibration.toml`` holds them with the rows they were fitted to; ``flows.calibrate`` refits them, and
``docs/accuracy.md`` shows how far they miss. A family that was not among the rows gets the mean of those that were,
and a wider interval.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from twobills.errors import CatalogError


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Fractions are of the data sheet's figure."""

    matmul_frac: Mapping[str, float]
    """Large 16-bit products, by hardware family, at that family's usual power."""
    attention_frac: Mapping[str, float]
    """Flash attention in a general kernel, by hardware family, over the causal half."""
    tuned_attention: float
    """How much faster the vendor's own attention kernel is, which fused software uses."""
    half_rate_s: float
    """How long, at peak, the product takes that runs at half the rate of a large one: filling and draining a chip."""
    bandwidth_frac: float
    """Memory bandwidth of streaming operations."""
    link_frac: float
    """Bandwidth of fast links in collectives."""
    network_frac: float
    """Bandwidth of the network in collectives."""
    data_overlap: float
    """Share of data-parallel transfers that runs beside computation."""
    tensor_overlap: float
    """Share of tensor- and expert-parallel transfers that runs beside computation in overlapping software."""
    passes: Mapping[str, float]
    """Memory traffic of streaming operations over the least possible, by software stack group: eager or fused."""
    straggling: float
    """Slow-down for each doubling of the chips beyond eight."""
    log_sigma: float
    """Standard deviation of ln(actual / forecast): between that of rows fitted and of rows of a source left out."""
    log_sigma_unseen: float
    """The same for a hardware family that was not fitted, from leaving families out."""
    run_low: float
    """Chip-hours that whole published runs reported over those forecast: the 5th percentile ..."""
    run_high: float
    """... and the 95th: experiments, other stages and slower software are in the reports and not in a forecast."""
    source: str
    as_of: str

    @property
    def n_parameters(self) -> int:
        """Fitted numbers."""
        return len(flatten(self))


def flatten(calibration: Calibration) -> dict[str, float]:
    """The fitted numbers by dotted name, ``matmul_frac.hopper``."""
    found: dict[str, float] = {}
    for name in FITTED:
        value = getattr(calibration, name)
        if isinstance(value, Mapping):
            found |= {f"{name}.{key}": number for key, number in value.items()}
        else:
            found[name] = value
    return found


FITTED = (
    "matmul_frac",
    "attention_frac",
    "tuned_attention",
    "half_rate_s",
    "bandwidth_frac",
    "link_frac",
    "network_frac",
    "data_overlap",
    "tensor_overlap",
    "passes",
    "straggling",
)


def unflatten(values: Mapping[str, float], like: Calibration) -> dict[str, Any]:
    """Keyword arguments for ``Calibration`` of these numbers, what is not fitted taken from ``like``."""
    fields: dict[str, Any] = {
        "log_sigma": like.log_sigma,
        "log_sigma_unseen": like.log_sigma_unseen,
        "run_low": like.run_low,
        "run_high": like.run_high,
        "source": like.source,
        "as_of": like.as_of,
    }
    for name, value in values.items():
        head, _, key = name.partition(".")
        if key:
            fields.setdefault(head, {})[key] = value
        else:
            fields[head] = value
    return fields


@cache
def published_calibration() -> Calibration:
    """The calibration that comes with the package. Raises CatalogError if its file is damaged."""
    text = resources.files("twobills.data").joinpath("calibration.toml").read_text(encoding="utf-8")
    row = tomllib.loads(text)["training"]
    try:
        return Calibration(**row)
    except TypeError as error:
        raise CatalogError(f"calibration.toml: {error}") from None
