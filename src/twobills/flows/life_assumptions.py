"""What a life hangs on, each assumption with a low and a high end: by the plan made anew, or by a factor.

Ends are the user's own range where he gave one, the known range of prices, the forecast's interval, and otherwise half
and double: they say what matters, not how likely each end is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from twobills.errors import CatalogError, RequestError
from twobills.flows.plan_halves import Served, Trained, served_on_datasheet
from twobills.plan.life import LifeCase, Serving
from twobills.plan.tornado import Assumption, Side
from twobills.specs import catalog
from twobills.specs.life import MOST_YEARS, Demand, DemandPoint, LifeSpec
from twobills.specs.plan_file import PlanSpec
from twobills.specs.prices import PriceKind
from twobills.units import per_s_to_per_hour, show_usd

PRICE_DECLINE = 0.3
GROWTH = 0.05
VERSION_MONTHS = 12.0
FILL = (0.5, 0.95)
PEAK = 2.0
PRICE_RANGE = 0.3
TRAFFIC_FACTOR = 2.0


def assumptions_of(asked: PlanSpec, trained: Trained, served: Served, case: LifeCase) -> list[Assumption]:
    """All that the life of this plan rests on."""
    return [
        *_of_use(asked, case),
        *_of_forecasts(asked, trained, served, case),
        *_of_prices(asked, trained, served, case),
        *([] if asked.on_this_machine else _planned_anew(asked, served, case)),
    ]


def _of_use(asked: PlanSpec, case: LifeCase) -> Iterator[Assumption]:
    spec = case.spec
    factor = asked.traffic_factor if asked.traffic_factor > 1 else TRAFFIC_FACTOR
    yield Assumption(
        "traffic",
        Side(f"1/{_plain(factor)}", _with_spec(case, demand=_times(spec.demand, 1 / factor))),
        Side(f"x {_plain(factor)}", _with_spec(case, demand=_times(spec.demand, factor))),
        "--requests-per-day, or --traffic FILE",
    )
    yield Assumption(
        "years in service",
        Side(_plain(spec.years / 2), _with_spec(case, years=spec.years / 2)),
        Side(_plain(min(2 * spec.years, MOST_YEARS)), _with_spec(case, years=min(2 * spec.years, MOST_YEARS))),
        "--years",
    )
    if not spec.demand.table and not spec.demand.decline_frac:
        growth = max(2 * spec.demand.growth_frac, GROWTH)
        flat, grown = (replace(spec.demand, growth_frac=frac) for frac in (0.0, min(growth, 1.0)))
        yield Assumption(
            "growth of traffic",
            Side("none", _with_spec(case, demand=flat)),
            Side(f"{_percent(min(growth, 1.0))} a month", _with_spec(case, demand=grown)),
            "--growth",
        )
    months = spec.version_months or VERSION_MONTHS
    yield Assumption(
        "newer versions",
        Side("none", _with_spec(case, version_months=None)),
        Side(f"every {_plain(months)} months", _with_spec(case, version_months=months)),
        "--version-months",
    )
    yield Assumption(
        "busiest hours over the mean",
        Side("1", _with_spec(case, peak_over_mean=1.0)),
        Side(
            _plain(max(PEAK, spec.peak_over_mean)),
            _with_spec(case, peak_over_mean=max(PEAK, spec.peak_over_mean)),
        ),
        "--peak-over-mean",
    )
    yield Assumption(
        "how full machines run",
        Side(_percent(FILL[1]), _with_spec(case, fill_frac=FILL[1])),
        Side(_percent(FILL[0]), _with_spec(case, fill_frac=FILL[0])),
        "--fill",
    )


def _of_forecasts(asked: PlanSpec, trained: Trained, served: Served, case: LifeCase) -> Iterator[Assumption]:
    usd = trained.total_usd
    here = "`ledger calibrate` after some runs" if asked.on_this_machine else ""
    yield Assumption(
        "the training forecast",
        Side(show_usd(usd.p5), _training(case, usd.p5)),
        Side(show_usd(usd.p95), _training(case, usd.p95)),
        here or "time some steps on those chips and set --batch-size, --seq-len, --train-dtype to what is run",
    )
    yield Assumption(
        "the serving forecast",
        Side(f"x {_plain(served.spread.low)}", _slower(case, served.spread.low)),
        Side(f"x {_plain(served.spread.high)}", _slower(case, served.spread.high)),
        here or "measure a server with the same load and set --engine, --weights, --kv to what it runs",
    )
    yield Assumption(
        "tokens trained on",
        Side("half", _training(case, usd.value / 2)),
        Side("double", _training(case, usd.value * 2)),
        "--tokens",
    )


def _of_prices(asked: PlanSpec, trained: Trained, served: Served, case: LifeCase) -> Iterator[Assumption]:
    serving = case.serving
    for job, chip, option, rates in (
        ("training", trained.chip, "--train-usd-per-chip-hour", trained.document["bill"]["rates"]),
        ("serving", served.chip, "--serve-usd-per-chip-hour", served.document["bill"]["rates"]),
    ):
        paid = rates["usd_per_chip_s"]
        if not paid:
            continue
        low, high = _price_range(chip, paid, asked)
        sides: list[Side] = []
        for price in (low, high):
            ratio = price / paid
            other = (
                _training(case, trained.total_usd.value * ratio)
                if job == "training"
                else case._replace(
                    serving=Serving(
                        serving.usd_per_request * ratio,
                        serving.usd_per_machine_day * ratio,
                        serving.requests_per_machine_day,
                    )
                )
            )
            sides.append(Side(f"{show_usd(per_s_to_per_hour(price))} an hour", other))
        yield Assumption(f"price of a {job} chip", sides[0], sides[1], option)
    yield Assumption(
        "chips get cheaper",
        Side(
            f"{_percent(max(PRICE_DECLINE, case.spec.price_decline_frac))} a year",
            _with_spec(case, price_decline_frac=max(PRICE_DECLINE, case.spec.price_decline_frac)),
        ),
        Side("not", _with_spec(case, price_decline_frac=0.0)),
        "--price-decline",
    )


def _planned_anew(asked: PlanSpec, served: Served, case: LifeCase) -> Iterator[Assumption]:
    """Ends that change what an answer takes."""
    lengths = {
        "length of answers": ("answer_tokens", "--answer-tokens"),
        "length of prompts": ("prompt_tokens", "--prompt-tokens"),
    }
    for name, (key, option) in lengths.items():
        tokens = getattr(asked, key)
        yield from _pair(
            asked,
            served,
            case,
            name,
            option,
            {
                f"{max(tokens // 2, 1):,} tokens": {key: max(tokens // 2, 1)},
                f"{2 * tokens:,} tokens": {key: 2 * tokens},
            },
        )
    cached = max(asked.cached, 0.5)
    yield from _pair(
        asked,
        served,
        case,
        "prompts found in the cache",
        "--cached",
        {
            _percent(cached): {"cached": cached},
            "none": {"cached": 0.0},
        },
    )
    yield from _pair(
        asked,
        served,
        case,
        "format of weights",
        "--weights",
        {
            "fp8": {"weights": "fp8"},
            "bf16": {"weights": "bf16"},
        },
    )


def _pair(
    asked: PlanSpec, served: Served, case: LifeCase, name: str, option: str, ends: Mapping[str, Mapping[str, Any]]
) -> Iterator[Assumption]:
    """The assumption with both ends planned, or none where one of them cannot be."""
    like = served.document["parallel"]
    sides = []
    for label, change in ends.items():
        try:
            other = served_on_datasheet(replace(asked, **change), like)
        except RequestError:
            return
        sides.append(Side(label, case._replace(serving=other.serving)))
    yield Assumption(name, sides[0], sides[1], option)


def _price_range(chip: str, paid: float, asked: PlanSpec) -> tuple[float, float]:
    """Of what the catalogue knows of people paying for it, spot excluded; a share either way if that says nothing."""
    try:
        known = catalog.chip_prices(chip, asked.catalog_file)
    except CatalogError:
        known = ()
    prices = [price.usd_per_chip_s for price in known if price.kind is not PriceKind.SPOT]
    low, high = min([paid, *prices]), max([paid, *prices])
    return (low, high) if high > low else (paid * (1 - PRICE_RANGE), paid * (1 + PRICE_RANGE))


def _times(demand: Demand, factor: float) -> Demand:
    if demand.table:
        rows = tuple(DemandPoint(point.day, point.requests_per_day * factor) for point in demand.table)
        return replace(demand, table=rows)
    return replace(demand, requests_per_day=demand.requests_per_day * factor)


def _with_spec(case: LifeCase, **change: Any) -> LifeCase:
    spec: LifeSpec = replace(case.spec, **change)
    return case._replace(spec=spec)


def _training(case: LifeCase, usd: float) -> LifeCase:
    return case._replace(training_usd=usd)


def _slower(case: LifeCase, factor: float) -> LifeCase:
    serving = case.serving
    return case._replace(
        serving=Serving(
            serving.usd_per_request * factor,
            serving.usd_per_machine_day,
            serving.requests_per_machine_day / factor,
        )
    )


def _plain(number: float) -> str:
    return f"{number:.3g}"


def _percent(frac: float) -> str:
    return f"{100 * frac:.3g} %"
