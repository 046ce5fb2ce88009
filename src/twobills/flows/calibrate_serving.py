"""Fits the serving calibration to published measurements, as ``flows.calibrate`` does training's.

Rows are weighted so that a source's table of one model on one chip counts by the root of its rows: a few tables
contribute most. Rows that need a steady state sought (clients, rates) are forecast but not fitted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from twobills.flows.validation.score import Scored
from twobills.flows.validation.serving import SETTLED, counted, forecast_serving, forecasts
from twobills.flows.validation.serving_rows import ServingRow
from twobills.specs.engine import Engine
from twobills.specs.serving_calibration import ServingCalibration, flatten, unflatten

PLAUSIBLE: Mapping[str, tuple[float, float]] = {
    "product_frac": (0.55, 0.3),
    "native_product_frac": (0.6, 0.4),
    "attention_frac": (0.35, 0.4),
    "bandwidth_frac": (0.8, 0.15),
    "memory_frac": (0.9, 0.3),
    "layer_s": (1.5e-5, 1.0),
    "prompt_layer_s": (3e-5, 1.0),
    "prompt_wait": (2.0, 0.4),
    "step_s": (1e-3, 1.0),
    "sequence_s": (1.5e-5, 1.0),
    "link_frac": (0.6, 0.3),
    "message_s": (5e-6, 0.7),
}
"""Before any row is seen: value, and standard deviation of its logarithm."""
ERROR_SCALE = 0.1
PRIOR_WEIGHT = 0.05
AT_MOST: Mapping[str, float] = {"memory_frac": 1.2}
"""Fractions stay below 1, but for what is relative to another kind of memory."""
Z95 = 1.6448536269514722


def fit_serving(rows: Sequence[ServingRow], start: ServingCalibration) -> ServingCalibration:
    """The calibration that these rows suggest."""
    fitted = [row for row in rows if row.manner not in SETTLED]
    groups = counted(fitted)
    measured = np.array([row.measured for row in fitted])
    weights = _weights(fitted)
    names = list(flatten(start))
    plausible = np.array([PLAUSIBLE[name.partition(".")[0]] for name in names])

    def at(logs: NDArray[np.float64]) -> ServingCalibration:
        return unflatten(dict(zip(names, np.exp(logs).tolist(), strict=True)), start)

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        errors = weights * np.log(forecasts(fitted, groups, at(logs)) / measured)
        return np.concatenate([errors, PRIOR_WEIGHT * (logs - np.log(plausible[:, 0])) / plausible[:, 1]])

    upper = np.array([_most(name) for name in names])
    first = np.minimum(np.log(np.array(list(flatten(start).values()))), upper - 1e-6)
    bounds = (np.full(len(names), -np.inf), upper)
    found = least_squares(residuals, first, bounds=bounds, loss="soft_l1", f_scale=ERROR_SCALE, max_nfev=40)
    return at(found.x)


def left_out_serving(rows: Sequence[ServingRow], start: ServingCalibration) -> list[Scored]:
    """Every row, forecast by a calibration that was fitted without its source."""
    scored: list[Scored] = []
    for source in sorted({row.source for row in rows}):
        found = fit_serving([row for row in rows if row.source != source], start)
        scored += forecast_serving([row for row in rows if row.source == source], found)
    return scored


def refit_serving(
    rows: Sequence[ServingRow], start: ServingCalibration, *, source: str, as_of: str
) -> ServingCalibration:
    """Fitted, its expected error between that of the rows fitted and that of rows whose source was left out."""
    found = fit_serving(rows, start)
    inside, outside = forecast_serving(rows, found), left_out_serving(rows, found)
    engines = sorted({row.engine for row in rows})
    sigma = {engine.value: math.sqrt(_log_sigma(inside, engine) * _log_sigma(outside, engine)) for engine in engines}
    return replace(found, log_sigma=sigma, log_sigma_unseen=_log_sigma(outside), source=source, as_of=as_of)


def serving_toml(calibration: ServingCalibration) -> str:
    """The file that ``specs.serving_calibration`` reads."""
    values = flatten(calibration)
    head = [f"{name} = {value:.4g}" for name, value in values.items() if "." not in name]
    lines = [
        "# What chips and engines achieve in serving; specs/serving_calibration.py says what each number means.",
        f"# {len(values)} numbers, fitted by `twobills validate inference ... --calibrate FILE`.",
        "",
        "[serving]",
        *head,
        f"log_sigma_unseen = {calibration.log_sigma_unseen:.4g}",
        f'source = "{calibration.source}"',
        f'as_of = "{calibration.as_of}"',
    ]
    for table in dict.fromkeys(name.partition(".")[0] for name in values if "." in name):
        keys = {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{table}.")}
        lines += ["", f"[serving.{table}]", *(f"{key} = {value:.4g}" for key, value in keys.items())]
    lines += ["", "[serving.log_sigma]", *(f"{key} = {value:.4g}" for key, value in calibration.log_sigma.items())]
    return "\n".join(lines) + "\n"


def _weights(rows: Sequence[ServingRow]) -> NDArray[np.float64]:
    keys = [(row.source, row.model.name, row.cluster.chip.name, row.metric, row.manner) for row in rows]
    count = Counter(keys)
    return np.array([1 / math.sqrt(count[key]) for key in keys])


def _most(name: str) -> float:
    kind = name.partition(".")[0]
    if kind in AT_MOST:
        return math.log(AT_MOST[kind])
    return math.log(0.98) if kind.endswith("_frac") else math.inf


def _log_sigma(scored: Sequence[Scored], engine: Engine | None = None) -> float:
    """What holds nine in ten of the errors, of one class of engine or of all."""
    of_engine = [row for row in scored if engine is None or row.detail["engine"] == engine.value]
    errors = [abs(math.log(row.forecast / row.measured)) for row in of_engine if row.forecast > 0]
    return float(np.quantile(errors, 0.9)) / Z95
