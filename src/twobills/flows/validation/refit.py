"""A new calibration file: fitted to all rows, its expected errors taken from rows left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from twobills.flows.calibrate import fit
from twobills.flows.validation.left_out import family_of, left_out, log_sigma, source_of
from twobills.flows.validation.rows import ThroughputRow
from twobills.flows.validation.runs import forecast_runs
from twobills.flows.validation.throughput import forecast_row
from twobills.specs.calibration import Calibration, flatten

SPREADS = ("log_sigma", "log_sigma_unseen", "run_low", "run_high")


def refit(
    rows: Sequence[ThroughputRow], runs: Sequence[Mapping[str, str]], start: Calibration, *, source: str, as_of: str
) -> Calibration:
    """Fitted to ``rows``, with the errors to expect.

    ``log_sigma`` is between that of the rows fitted and that of rows whose source was left out (their geometric mean:
    a user's run resembles some source in part), ``log_sigma_unseen`` from leaving out families. The spread of whole
    runs is that of the verified ``runs``; without any it stays as it was.
    """
    found = fit(rows, start)
    fitted = [forecast_row(row, found) for row in rows]
    low, high = _reported_over_forecast(runs, found) if runs else (start.run_low, start.run_high)
    return replace(
        found,
        run_low=low,
        run_high=high,
        log_sigma=math.sqrt(log_sigma(fitted) * log_sigma(left_out(rows, found, source_of))),
        log_sigma_unseen=log_sigma(left_out(rows, found, family_of)),
        source=source,
        as_of=as_of,
    )


def _reported_over_forecast(runs: Sequence[Mapping[str, str]], calibration: Calibration) -> tuple[float, float]:
    """5th and 95th percentile over the verified runs."""
    scored, _ = forecast_runs(runs, calibration, "runs")
    ratios = [row.measured / row.forecast for row in scored if row.detail["verified"]]
    low, high = np.quantile(ratios, (0.05, 0.95)).tolist()
    return low, high


def to_toml(calibration: Calibration) -> str:
    """The file that ``specs.calibration`` reads."""
    head = [
        "# What chips and software achieve of their data sheets; specs/calibration.py says what each number means.",
        f"# {calibration.n_parameters} numbers, fitted by `twobills validate training ... --calibrate FILE`.",
        "",
        "[training]",
    ]
    values = flatten(calibration)
    single = [f"{name} = {value:.4g}" for name, value in values.items() if "." not in name]
    spreads = [f"{name} = {getattr(calibration, name):.4g}" for name in SPREADS]
    cited = [f'source = "{calibration.source}"', f'as_of = "{calibration.as_of}"']
    lines = [*head, *single, *spreads, *cited]
    section = ""
    for name, value in values.items():
        table, _, key = name.partition(".")
        if key and table != section:
            lines += ["", f"[training.{table}]"]
            section = table
        if key:
            lines.append(f"{key} = {value:.4g}")
    return "\n".join(lines) + "\n"
