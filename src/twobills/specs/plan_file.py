"""A plan of both bills as one object and as one TOML file: what was asked, so that it can be kept, compared and rerun.

Keys are the options of ``twobills plan`` with ``_`` for ``-``; what is not there has its default. Traffic that is a
table is ``[[traffic]]`` rows of ``day`` and ``requests_per_day``, or on the command line a CSV file of these columns.
"""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from twobills.errors import RequestError
from twobills.specs.dtype import DType
from twobills.specs.engine import Engine
from twobills.specs.life import FILL_FRAC, YEARS, Demand, DemandPoint, LifeSpec
from twobills.units import parse_count

REQUESTS_PER_DAY = 1e6
"""Assumed where no traffic is given."""
CONCURRENCY = 16
"""Requests at once that this machine is measured with."""
THIS_MACHINE = "this"
_FRACS = ("cached", "growth", "decline", "price_decline", "discount", "fill", "shave")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSpec:
    """What ``twobills plan`` is asked; fractions are of 1, None where nothing was said."""

    model: str
    tokens: str
    chips: str | None = None
    """For both jobs, unless told apart; ``this`` measures the machine one sits at."""
    train_chips: str | None = None
    serve_chips: str | None = None
    """One machine; as many as the traffic takes are planned."""
    batch_size: int | None = None
    seq_len: int | None = None
    train_dtype: str = DType.BF16.value
    requests_per_day: float | None = None
    prompt_tokens: int = 1000
    answer_tokens: int = 300
    cached: float = 0.0
    concurrency: int = CONCURRENCY
    """Requests in flight; only on this machine, elsewhere the traffic says."""
    weights: str = "bf16"
    kv: str = "bf16"
    engine: str = Engine.SERVER.value
    usd_per_chip_hour: float | None = None
    train_usd_per_chip_hour: float | None = None
    serve_usd_per_chip_hour: float | None = None
    owned: bool = False
    growth: float = 0.0
    growth_months: float | None = None
    decline: float = 0.0
    traffic: tuple[DemandPoint, ...] = ()
    years: float = YEARS
    price_decline: float = 0.0
    discount: float = 0.0
    version_months: float | None = None
    peak_over_mean: float = 1.0
    fill: float = FILL_FRAC
    traffic_factor: float = 1.0
    """Traffic is known within this factor, either way, in nine cases of ten."""
    shave: float = 0.01
    seed: int = 0
    catalog_file: Path | None = None

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "answer_tokens", "concurrency"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("usd_per_chip_hour", "train_usd_per_chip_hour", "serve_usd_per_chip_hour"):
            price = getattr(self, name)
            if price is not None and not 0 <= price < math.inf:
                raise RequestError(f"{name}={price:g}: must be a number of dollars, 0 or more")
        if self.concurrency != CONCURRENCY and not self.on_this_machine:
            raise RequestError("concurrency: only with chips=this; elsewhere the batch is planned from the traffic")
        if not 0 <= self.cached < 1:
            raise RequestError(f"cached={self.cached:g}: must be from 0 to below 1")
        if not 0 < self.shave <= 1:
            raise RequestError(f"shave={self.shave:g}: must be above 0 and at most 1, like 1%")
        if not 1 <= self.traffic_factor <= 1000:
            raise RequestError(f"traffic_factor={self.traffic_factor:g}: must be from 1 (certain) to 1000")
        if self.seed < 0:
            raise RequestError(f"seed={self.seed}: must be 0 or more")
        if self.engine not in list(Engine):
            raise RequestError(f"engine={self.engine!r}: must be one of {', '.join(Engine)}")
        if self.traffic and self.requests_per_day is not None:
            raise RequestError("requests_per_day and traffic: give one of the two")
        self.life()

    @property
    def on_this_machine(self) -> bool:
        """Whether the plan is of the machine one sits at."""
        return THIS_MACHINE in (self.chips, self.train_chips, self.serve_chips)

    def life(self) -> LifeSpec:
        """The life that was asked for. Raises SpecError where it contradicts itself."""
        given = REQUESTS_PER_DAY if self.requests_per_day is None else self.requests_per_day
        return LifeSpec(
            demand=Demand(
                requests_per_day=0.0 if self.traffic else given,
                growth_frac=self.growth,
                growth_months=self.growth_months,
                decline_frac=self.decline,
                table=self.traffic,
            ),
            years=self.years,
            price_decline_frac=self.price_decline,
            discount_frac=self.discount,
            version_months=self.version_months,
            peak_over_mean=self.peak_over_mean,
            fill_frac=self.fill,
        )

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults, as plain JSON."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        told["catalog_file"] = None if self.catalog_file is None else str(self.catalog_file)
        told["traffic"] = [point._asdict() for point in self.traffic] or ()
        defaults = {field.name: field.default for field in fields(self)}
        return {key: value for key, value in told.items() if value != defaults[key]}


def read_plan(path: Path) -> PlanSpec:
    """The plan in a file. Raises RequestError for anything that it does not know."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: not TOML ({error})") from None
    return plan_of(document, str(path))


def plan_of(given: Mapping[str, Any], where: str) -> PlanSpec:
    """The plan of keys and values as a file or the command line gives them. Raises RequestError."""
    types = {field.name: str(field.type) for field in fields(PlanSpec)}
    if unknown := [key for key in given if key not in types]:
        raise RequestError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(types)}")
    if missing := [key for key in ("model", "tokens") if given.get(key) is None]:
        raise RequestError(f"{where}: {missing[0]} is missing; a plan needs a model and the tokens it is trained on")
    return PlanSpec(**{key: _value(key, types[key], value, where) for key, value in given.items()})


def plan_to_toml(plan: PlanSpec) -> str:
    """The file that ``read_plan`` reads."""
    told = plan.to_json()
    rows = told.pop("traffic", [])
    lines = [
        "# A plan of both bills: rerun it with `twobills plan FILE`.",
        *(f"{k} = {_toml(v)}" for k, v in told.items()),
    ]
    for row in rows:
        lines += ["", "[[traffic]]", *(f"{key} = {_toml(value)}" for key, value in row.items())]
    return "\n".join(lines) + "\n"


def read_traffic(path: Path) -> list[dict[str, float]]:
    """Rows of a CSV file with the columns ``day`` and ``requests_per_day``. Raises RequestError."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"--traffic {path}: cannot be read ({error})") from None
    wanted = DemandPoint._fields
    if not rows or any(row.get(key) is None for row in rows for key in wanted):
        raise RequestError(f"--traffic {path}: must have the columns {' and '.join(wanted)}, and a row at least")
    try:
        return [{key: float(row[key]) for key in wanted} for row in rows]
    except ValueError as error:
        raise RequestError(f"--traffic {path}: {error}") from None


def _value(key: str, kind: str, value: Any, where: str) -> Any:
    """A value as the field wants it: counts and percentages may be written as people do."""
    if key == "traffic":
        return _traffic(value, where)
    if key == "tokens" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:g}"
    if key in _FRACS:
        return _frac(key, value, where)
    if value is None:
        return None
    if key == "catalog_file":
        return Path(str(value))
    wanted = kind.split(" | ")[0]
    if wanted == "float" and isinstance(value, str):
        try:
            return parse_count(value)
        except ValueError as error:
            raise RequestError(f"{where}: {key} {error}") from None
    fits = _TYPES[wanted]
    if not isinstance(value, fits) or (isinstance(value, bool) and wanted != "bool"):
        raise RequestError(f"{where}: {key}={value!r}: must be {_WORDS[wanted]}")
    return float(value) if wanted == "float" else value


_TYPES: Mapping[str, Any] = {"str": str, "int": int, "float": (int, float), "bool": bool}
_WORDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}


def _frac(key: str, value: Any, where: str) -> float:
    text = str(value).strip()
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise RequestError(f"{where}: {key}={value!r}: write it like 5% or 0.05") from None


def _traffic(rows: Any, where: str) -> tuple[DemandPoint, ...]:
    try:
        return tuple(DemandPoint(**{key: float(value) for key, value in row.items()}) for row in rows)
    except (AttributeError, TypeError, ValueError):
        raise RequestError(f"{where}: traffic: each row must be a day and requests_per_day, two numbers") from None


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}"'
    return repr(value)
