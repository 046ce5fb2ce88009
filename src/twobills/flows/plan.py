"""Both bills of a model over its life: what ``twobills plan MODEL`` finds, as the document that ``--json`` prints.

The halves come from data sheets (``plan_halves``) or from measuring the machine one sits at (``plan_here``); the life
joins them: cumulative bills, the day on which they cross, what a dollar saved on each answer is worth, what it all
hangs on, who gets the money, each figure with its interval.
"""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import Any

import numpy as np

from twobills.counts.params import count_params
from twobills.flows.asked import resolve_model
from twobills.flows.life_assumptions import assumptions_of
from twobills.flows.plan_halves import Served, Trained, served_on_datasheet, trained_on_datasheet
from twobills.flows.plan_here import served_here, trained_here
from twobills.plan.interval import Interval, Spread
from twobills.plan.life import HORIZON_YEARS, LifeCase, constant_lives, requests_per_day
from twobills.plan.life_uncertainty import N_SAMPLES, Band, Doubt, SurveyedLife, survey
from twobills.plan.tornado import Ending, Swing, tornado
from twobills.report.documents import SCHEMA
from twobills.specs.dtype import DType
from twobills.specs.hardware import MachineSpec
from twobills.specs.plan_file import REQUESTS_PER_DAY, PlanSpec
from twobills.units import DAYS_PER_YEAR

CURVE_POINTS = 121
TOP = 3


def plan_both(asked: PlanSpec, measured: MachineSpec | None = None, dtype: DType | None = None) -> dict[str, Any]:
    """The document. ``measured``: this machine; None reads data sheets. Raises RequestError, one line."""
    model = resolve_model(asked.model, asked.catalog_file)
    if measured is None:
        trained, served = trained_on_datasheet(asked), served_on_datasheet(asked)
    else:
        dtype = dtype or DType.BF16
        trained, served = trained_here(asked, measured, dtype), served_here(asked, measured, dtype)
    case = LifeCase(trained.total_usd.value, served.serving, asked.life())
    factor = asked.traffic_factor
    doubt = Doubt(trained.total_usd.spread, served.spread, Spread(1 / factor, factor))
    surveyed = survey(case, doubt, seed=asked.seed)
    return {
        "schema": SCHEMA,
        "model": {"name": model.name, "n_params": count_params(model).total},
        "plan": asked.to_json(),
        "chip": {
            "name": trained.chip,
            "n_chips": trained.n_chips,
            "serving_name": served.chip,
            "n_serving_chips": served.machine_chips,
            "rates_of_work": served.rates_of_work,
        },
        "training": {**trained.document, "split": trained.split},
        "inference": _inference(served, surveyed),
        "life": _life(asked, trained, served, case, surveyed),
        "assumed": [*trained.assumed, *served.assumed, *_assumed(asked)],
    }


def _inference(served: Served, surveyed: SurveyedLife) -> dict[str, Any]:
    """The serving half at the first day's traffic."""
    machines = surveyed.figures.first_n_machines
    usd = _scaled(machines, float(served.serving.usd_per_machine_day))
    per_mtok = {
        view: {kind: _token(price, view, served.spread, machines) for kind, price in prices.items()}
        for view, prices in served.prices.items()
    }
    return {
        **served.document,
        "n_machines": machines.to_json(),
        "most_machines": surveyed.figures.most_machines.to_json(),
        "usd_per_machine_day": served.serving.usd_per_machine_day,
        "usd_per_day": usd.to_json(),
        **per_mtok,
        "usd_per_request_when_full": served.serving.usd_per_request,
        "split": served.split,
    }


def _token(usd: float | None, view: str, spread: Spread, machines: Interval) -> dict[str, float] | None:
    """A token's price moves with the speed of machines, that of reserved ones with their number."""
    if usd is None:
        return None
    if view == "usd_per_mtok_reserved":
        return _scaled(machines, usd / machines.value).to_json()
    return Interval(usd, usd * spread.low, usd * spread.high).to_json()


def _life(asked: PlanSpec, trained: Trained, served: Served, case: LifeCase, surveyed: SurveyedLife) -> dict[str, Any]:
    figures, spec = surveyed.figures, case.spec
    swings = tornado(assumptions_of(asked, trained, served, case))
    crossing = figures.crossover_days
    known = np.isfinite(crossing.value)
    why = {} if known else {"reason": f"inference does not catch up with training within {HORIZON_YEARS:g} years"}
    points = constant_lives(case)
    return {
        "years": spec.years,
        "n_versions": 1 if spec.version_months is None else math.ceil(spec.years * 12 / spec.version_months - 1e-9),
        "crossover_days": {k: days if np.isfinite(days) else None for k, days in crossing.to_json().items()},
        "crossover_date": _date(crossing.value) if known else None,
        **why,
        "crosses_within_life": bool(known and crossing.value <= spec.years * DAYS_PER_YEAR),
        "inference_share": figures.inference_share.to_json(),
        "training_usd": figures.training_usd.to_json(),
        "inference_usd": figures.inference_usd.to_json(),
        "used_usd": figures.used_usd.to_json(),
        "total_usd": figures.total_usd.to_json(),
        "n_requests": figures.n_requests.to_json(),
        "usd_per_answer": figures.usd_per_answer.to_json(),
        "shave": _shave(asked, trained, surveyed),
        "top_assumptions": [_swing(swing) for swing in swings[:TOP]],
        "tornado": [_swing(swing) for swing in swings],
        "split": _split(trained, served, surveyed),
        "curves": _curves(surveyed, case),
        "demands": [point.to_json() for point in points],
        "n_samples": N_SAMPLES,
        "seed": asked.seed,
    }


def _shave(asked: PlanSpec, trained: Trained, surveyed: SurveyedLife) -> dict[str, Any]:
    """What a share off the cost of each answer is worth, whole machines counted in fractions: they come in many."""
    inference, years = surveyed.figures.inference_usd, asked.years
    worth = _scaled(inference, asked.shave)
    return {
        "frac": asked.shave,
        "usd_per_year": _scaled(worth, 1 / years).to_json(),
        "usd_over_life": worth.to_json(),
        "training_frac": worth.value / trained.total_usd.value if trained.total_usd.value else None,
    }


def _split(trained: Trained, served: Served, surveyed: SurveyedLife) -> dict[str, Any] | None:
    """Who gets each dollar of both bills over the life, by the shares of one run and of one day."""
    if trained.split is None or served.split is None:
        return None
    figures = surveyed.figures
    usd: dict[str, dict[str, float]] = {}
    for job, split, total in (
        ("training", trained.split, figures.training_usd.value),
        ("inference", served.split, figures.inference_usd.value),
    ):
        for part in split["parts"]:
            usd.setdefault(part["payee"], {"training": 0.0, "inference": 0.0})[job] = (
                part["share_frac"] or 0.0
            ) * total
    both = figures.total_usd.value
    return {
        "tenure": {"training": trained.split["tenure"], "inference": served.split["tenure"]},
        "parts": [
            {
                "payee": payee,
                **each,
                "usd": sum(each.values()),
                "share_frac": sum(each.values()) / both if both else None,
            }
            for payee, each in usd.items()
        ],
    }


def _curves(surveyed: SurveyedLife, case: LifeCase) -> dict[str, Any]:
    """Both bills so far on days of the life, each with its band."""
    bills = surveyed.bills
    days = np.linspace(0.0, bills.life_days, CURVE_POINTS)
    jumps = bills.days[:-1][np.diff(bills.days) == 0]
    days = np.sort(np.concatenate([days, jumps[jumps < bills.life_days], jumps[jumps < bills.life_days] - 1e-6]))
    return {
        "days": days.tolist(),
        "requests_per_day": requests_per_day(case.spec.demand, days).tolist(),
        "training_usd": _curve(surveyed.training, bills.days, days),
        "inference_usd": _curve(surveyed.inference, bills.days, days),
    }


def _curve(band: Band, grid: Any, days: Any) -> dict[str, list[float]]:
    return {name: np.interp(days, grid, column).tolist() for name, column in band._asdict().items()}


def _swing(swing: Swing) -> dict[str, Any]:
    return {
        "name": swing.name,
        "low": _ending(swing.low),
        "high": _ending(swing.high),
        "swing_usd": swing.usd,
        "change": swing.change,
    }


def _ending(end: Ending) -> dict[str, Any]:
    return {**end._asdict(), "crossover_days": end.crossover_days if np.isfinite(end.crossover_days) else None}


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(*(figure * factor for figure in interval))


def _date(days: float) -> str:
    """The day of the crossing if the model goes into service today."""
    return (date.today() + timedelta(days=days)).isoformat()


def _assumed(asked: PlanSpec) -> list[str]:
    """What nobody said of the life."""
    found = []
    if asked.requests_per_day is None and not asked.traffic:
        found.append(f"traffic: {REQUESTS_PER_DAY:,.0f} requests a day")
    if not asked.growth and not asked.decline and not asked.traffic:
        found.append("traffic is the same every day")
    if asked.years == PlanSpec.__dataclass_fields__["years"].default:
        found.append(f"in service for {asked.years:g} years")
    if asked.fill == PlanSpec.__dataclass_fields__["fill"].default:
        found.append(f"machines are at most {asked.fill:.0%} full in the busiest hours")
    if asked.peak_over_mean == 1:
        found.append("requests come evenly over the day")
    if not asked.price_decline and not asked.discount:
        found.append("today's prices all the time, a later dollar worth as much")
    if asked.version_months is None:
        found.append("no newer version is trained")
    found.append("the two forecasts miss independently of each other")
    return found
