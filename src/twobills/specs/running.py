"""What operating a large machine takes: failures, checkpoints, power, the building, capital. Facts, no formula.

Each default stands in ``data/running.toml`` with the range that its sources span, where it comes from and whether it
is assumed. Change one with ``dataclasses.replace(running, pue=1.2)``: it is checked, and from then on counts as the
user's own figure and no longer as an assumption of ours. ``observed`` rows are what others reported; ``silicon`` rows
are what a chip costs to buy and its parts cost to make.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from twobills.errors import CatalogError, SpecError
from twobills.specs.catalog import read_rows
from twobills.units import DAYS_PER_YEAR, GIGA, JOULES_PER_KWH, SECONDS_PER_DAY, SECONDS_PER_HOUR

SECONDS_PER_YEAR = DAYS_PER_YEAR * SECONDS_PER_DAY
_FACT_KEYS = {"value", "low", "high", "source", "as_of", "verified", "assumed"}
_SILICON_KEYS = {"price_usd", "parts_usd", "source", "as_of", "verified"}
_COLUMNS = {
    "mtbf_chip_hours": ("mtbf_chip_s", SECONDS_PER_HOUR),
    "restart_seconds": ("restart_s", 1.0),
    "checkpoint_pause_seconds": ("checkpoint_pause_s", 1.0),
    "checkpoint_copy_gb_per_s": ("checkpoint_copy_bytes_per_s", GIGA),
    "checkpoint_write_gb_per_s": ("checkpoint_write_bytes_per_s", GIGA),
    "electricity_usd_per_kwh": ("electricity_usd_per_j", 1 / JOULES_PER_KWH),
    "facility_usd_per_watt": ("facility_usd_per_w", 1.0),
    "facility_opex_usd_per_watt_year": ("facility_opex_usd_per_w_s", 1 / SECONDS_PER_YEAR),
    "facility_life_years": ("facility_life_s", SECONDS_PER_YEAR),
    "life_years": ("life_s", SECONDS_PER_YEAR),
}
"""Keys of the data file in human units: our field and the factor to base units. The others are spelt as the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One figure with the range of its sources and where it comes from, in base units."""

    value: float
    low: float
    high: float
    source: str
    as_of: str
    verified: bool
    """Whether the source was read."""
    assumed: bool
    """Whether the figure is our stand-in rather than somebody's published one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How a large machine runs and what it costs to own, per chip and with its share of server and network."""

    mtbf_chip_s: float
    """Mean time between failures that stop the job, of one chip with its share of host and network; inf: never."""
    restart_s: float
    """From a failure to training again: detect, replace, reschedule, initialise; then the checkpoint is read."""
    checkpoint_pause_s: float
    """What every checkpoint stops the run for, whatever its size."""
    checkpoint_copy_bytes_per_s: float
    """Per chip, out of device memory."""
    checkpoint_write_bytes_per_s: float
    """Per chip, to and from storage that survives the failure."""
    pauses_frac: float
    """Rollbacks, debugging and waiting, as a share of the run's other time; machine failures are counted apart."""
    evaluation_frac: float
    """Evaluation during the run, as a share of its training time."""
    pue: float
    """Power of the facility / power of its computers."""
    electricity_usd_per_j: float
    server_power_factor: float
    """Rated watts of a server / rated watts of its chips."""
    mean_draw_frac: float
    """Mean / rated watts of a server at work."""
    facility_usd_per_w: float
    """The building with power and cooling, per rated watt of IT."""
    facility_life_s: float
    facility_opex_usd_per_w_s: float
    """Staff and upkeep without energy, per rated watt of IT and second."""
    server_factor: float
    """Price of a server / price of its chips; 1 where the chip's price is a share of a whole server's."""
    network_factor: float
    """Price of a cluster / price of its servers."""
    life_s: float
    """Years over which a server is written off, in seconds."""
    decline_oom_per_year: float
    """Orders of magnitude by which hardware loses value a year."""
    cost_of_capital_frac: float
    """Interest and return on capital a year; the annuity alone charges it."""
    utilization_frac: float
    """Share of the owned hours that some job uses."""
    facts: Mapping[str, Fact] = field(default_factory=dict, repr=False, compare=False)
    """Where each default comes from, by field."""

    def __post_init__(self) -> None:
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if math.isnan(value) or not least <= value <= most:
                raise SpecError(f"{name}={value:g}: must be {_within(least, most)}")
            if math.isinf(value) and name != "mtbf_chip_s":
                raise SpecError(f"{name}={value:g}: must be a finite number")
            if value == 0 and name in _NEVER_ZERO:
                raise SpecError(f"{name}={value:g}: must be above 0")

    def is_assumed(self, name: str) -> bool:
        """Whether a figure is our assumption: the user's own is not."""
        return self.is_default(name) and self.facts[name].assumed

    def is_default(self, name: str) -> bool:
        """Whether a figure is what it is where nobody says anything."""
        fact = self.facts.get(name)
        return fact is not None and fact.value == getattr(self, name)

    def source(self, name: str) -> str:
        """Where a figure comes from."""
        fact = self.facts.get(name)
        return fact.source if fact is not None and fact.value == getattr(self, name) else "given by the user"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiliconCost:
    """What a chip sells for and what its parts cost its maker, as analysts estimate it."""

    price_usd: float
    parts_usd: float
    """Die, memory, package, test."""
    source: str
    as_of: str
    verified: bool

    def __post_init__(self) -> None:
        if not 0 <= self.parts_usd <= self.price_usd:
            raise SpecError(f"parts_usd={self.parts_usd:g}: must be between 0 and price_usd={self.price_usd:g}")


@cache
def default_running() -> Running:
    """The defaults of ``data/running.toml``. Raises CatalogError where a row breaks the file's rules."""
    facts = dict(_fact(key, row) for key, row in read_rows("running")["default"].items())
    names = {f.name for f in fields(Running)} - {"facts"}
    if missing := sorted(names - set(facts)):
        raise CatalogError(f"running.toml: no default for {missing[0]}")
    if unknown := sorted(set(facts) - names):
        raise CatalogError(f"running.toml: unknown default {unknown[0]!r}")
    return Running(**{name: fact.value for name, fact in facts.items()}, facts=facts)


@cache
def silicon_costs() -> Mapping[str, SiliconCost]:
    """Estimated price and parts of the chips for which both are known, by chip."""
    rows = read_rows("running")["silicon"]
    for chip, row in rows.items():
        _check(f"silicon {chip}", row, _SILICON_KEYS)
    return {chip: SiliconCost(**row) for chip, row in rows.items()}


def _fact(key: str, row: Mapping[str, Any]) -> tuple[str, Fact]:
    _check(f"default {key}", row, _FACT_KEYS)
    if not row["low"] <= row["value"] <= row["high"]:
        raise CatalogError(f"default {key}: value={row['value']} lies outside low={row['low']} to high={row['high']}")
    name, factor = _COLUMNS.get(key, (key, 1.0))
    numbers = {column: row[column] * factor for column in ("value", "low", "high")}
    return name, Fact(**{**row, **numbers})


def _check(what: str, row: Mapping[str, Any], keys: set[str]) -> None:
    if wrong := sorted(set(row) ^ keys):
        raise CatalogError(f"running.toml, {what}: {wrong[0]!r} is {'unknown' if wrong[0] in row else 'missing'}")


def _within(least: float, most: float) -> str:
    return f"at least {least:g}" if math.isinf(most) else f"between {least:g} and {most:g}"


_LIMITS = {
    **{f.name: (0.0, math.inf) for f in fields(Running) if f.name != "facts"},
    "pue": (1.0, 10.0),
    "server_power_factor": (1.0, 10.0),
    "mean_draw_frac": (0.0, 1.0),
    "server_factor": (1.0, 10.0),
    "network_factor": (1.0, 10.0),
    "decline_oom_per_year": (0.0, 2.0),
    "cost_of_capital_frac": (0.0, 1.0),
    "utilization_frac": (0.0, 1.0),
    "pauses_frac": (0.0, 10.0),
    "evaluation_frac": (0.0, 10.0),
}
_NEVER_ZERO = {
    "mtbf_chip_s",
    "checkpoint_copy_bytes_per_s",
    "checkpoint_write_bytes_per_s",
    "facility_life_s",
    "life_s",
    "utilization_frac",
}
