"""From what traffic on using a model costs more than building it: well-known models, as a document and as a page.

Every model answers the same requests on the same chips, as many to a machine as answer cheaply, kept as full
as planned, all year, at today's prices. Training is forecast from what its makers say of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from twobills.flows.plan_halves import served_on_datasheet, trained_on_datasheet
from twobills.flows.plan_request import write_text
from twobills.plan.interval import Interval, combined
from twobills.plan.life import LifeCase, Serving, crossover_days, live
from twobills.report.documents import SCHEMA
from twobills.report.two_bills_page import two_bills_page
from twobills.specs import catalog
from twobills.specs.life import Demand
from twobills.specs.plan_file import PlanSpec, plan_of
from twobills.units import DAYS_PER_YEAR, SECONDS_PER_HOUR

SERVE_CHIPS = "h200"
DWARFS = 10.0
"""Inference dwarfs training where a year of it costs so many times as much."""
TRAFFIC = (1e6, 1e7, 1e8, 1e9)
_PLAN_KEYS = ("tokens", "train_chips", "train_dtype", "weights")


def two_bills_document(
    chips: str = SERVE_CHIPS, *, prompt_tokens: int = 1000, answer_tokens: int = 300
) -> dict[str, Any]:
    """Every model of ``data/two_bills.toml``. Raises RequestError, one line, for chips that cannot serve one."""
    rows = catalog.read_rows("two_bills")
    asked = {"chips": chips, "prompt_tokens": prompt_tokens, "answer_tokens": answer_tokens}
    models = [_model(name, row, plan_of({"model": name, **_inputs(row), **asked}, name)) for name, row in rows.items()]
    example = plan_of({"model": "any", "tokens": "1", **asked}, "table")
    return {
        "schema": SCHEMA,
        "serve_chips": chips,
        "prompt_tokens": prompt_tokens,
        "answer_tokens": answer_tokens,
        "fill_frac": example.fill,
        "dwarfs_factor": DWARFS,
        "traffic": list(TRAFFIC),
        "models": sorted(models, key=lambda model: float(model["training_usd"]["value"])),
    }


def write_two_bills(document: Mapping[str, Any], path: Path) -> None:
    """Writes the page. Raises RequestError where it cannot be written."""
    write_text(path, two_bills_page(document), "FILE")


def _inputs(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in _PLAN_KEYS if key in row}


def _model(name: str, row: Mapping[str, Any], asked: PlanSpec) -> dict[str, Any]:
    trained, served = trained_on_datasheet(asked), served_on_datasheet(asked)
    serving = served.serving
    usd_per_year = float(serving.usd_per_machine_day) * DAYS_PER_YEAR
    taken = float(serving.requests_per_machine_day) * asked.fill
    machines = trained.total_usd.value / usd_per_year
    inverse = (1 / served.spread.high, 1 / served.spread.low)
    equal = combined(
        machines * taken, trained.total_usd.spread, served.spread._replace(low=inverse[0], high=inverse[1])
    )
    hours = trained.document["chip_hours"]["value"]
    return {
        "name": name,
        "n_tokens": row["tokens"],
        "train_chips": asked.train_chips,
        "training_usd": trained.total_usd.to_json(),
        "chip_hours": hours,
        "reported_chip_hours": row["reported_chip_hours"],
        "machine": f"{served.machine_chips} x {served.chip}",
        "weights": asked.weights,
        "usd_per_machine_year": usd_per_year,
        "usd_per_million_requests": usd_per_year / DAYS_PER_YEAR / taken * 1e6,
        "machines_when_equal": machines,
        "equal_requests_per_day": equal.to_json(),
        "dwarfs_requests_per_day": Interval(*(DWARFS * each for each in equal)).to_json(),
        "crossover_days": [_crossing(asked, trained.total_usd.value, serving, traffic) for traffic in TRAFFIC],
        "usd_per_chip_hour": trained.document["bill"]["rates"]["usd_per_chip_s"] * SECONDS_PER_HOUR,
        "price_source": trained.document["bill"]["rates"]["source"],
        "price_assumed": trained.document["bill"]["rates"]["assumed"],
        "serving_usd_per_chip_hour": served.document["bill"]["rates"]["usd_per_chip_s"] * SECONDS_PER_HOUR,
        "serving_price_source": served.document["bill"]["rates"]["source"],
        "source": row["source"],
        "as_of": row["as_of"],
        "assumed": row.get("assumed", []),
    }


def _crossing(asked: PlanSpec, training_usd: float, serving: Serving, traffic: float) -> float | None:
    """Days; None beyond the horizon."""
    spec = asked.life()
    at = LifeCase(training_usd, serving, replace(spec, demand=Demand(requests_per_day=traffic)))
    days = float(crossover_days(live(at))[0])
    return days if days != float("inf") else None
