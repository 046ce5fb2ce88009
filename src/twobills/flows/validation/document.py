"""``twobills validate training``: one table of measured rows, held against the forecast, as one document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twobills.errors import DataError
from twobills.flows.validation.rows import Skipped, ThroughputRow, read_table, throughput_rows
from twobills.flows.validation.runs import forecast_runs, is_run_table
from twobills.flows.validation.score import Scored, score, score_by, within
from twobills.flows.validation.serving import forecast_serving
from twobills.flows.validation.serving_rows import ServingRow, serving_rows
from twobills.flows.validation.throughput import forecast_rows
from twobills.report.documents import SCHEMA
from twobills.specs.calibration import Calibration
from twobills.specs.serving_calibration import ServingCalibration

FACTORS = (1.5, 2.5)


class Validated(NamedTuple):
    """A table with its forecasts."""

    path: Path
    is_runs: bool
    n_rows: int
    rows: list[ThroughputRow]
    """Inputs of those that can be forecast; none for whole runs."""
    scored: list[Scored]
    skipped: list[Skipped]
    served: Sequence[ServingRow] = ()
    """Inputs of serving rows."""


def validate_file(path: Path, calibration: Calibration) -> Validated:
    """Forecasts of a table of throughput or of whole runs. Raises DataError if it is neither or no row is forecast."""
    table = read_table(path)
    read: list[ThroughputRow | Skipped] = []
    if is_runs := is_run_table(table):
        scored, skipped = forecast_runs(table, calibration, str(path))
    else:
        read = list(throughput_rows(table, str(path)))
        scored, skipped = forecast_rows(read, calibration)
    if not scored:
        raise DataError(f"{path}: none of its {len(table)} rows can be forecast; the first: {skipped[0].reason}")
    rows = [row for row in read if isinstance(row, ThroughputRow)]
    return Validated(path, is_runs, len(table), rows, scored, skipped)


def validate_serving_file(path: Path, calibration: ServingCalibration) -> Validated:
    """Forecasts of a table of serving measurements. Raises DataError if it is none or no row is forecast."""
    table = read_table(path)
    read = list(serving_rows(table, str(path)))
    rows = [row for row in read if isinstance(row, ServingRow)]
    skipped = [row for row in read if isinstance(row, Skipped)]
    if not rows:
        raise DataError(f"{path}: none of its {len(table)} rows can be forecast; the first: {skipped[0].reason}")
    scored = forecast_serving(rows, calibration)
    beyond = "the load saturates the forecast system: there is no steady latency"
    missed = [Skipped({"source": "", "model": ""}, True, beyond)] * (len(rows) - len(scored))
    return Validated(path, False, len(table), [], scored, [*skipped, *missed], rows)


def validation_document(validated: Validated) -> dict[str, Any]:
    """The JSON of ``twobills validate ... FILE --json``. Errors are forecast / measured - 1."""
    scored, skipped = validated.scored, validated.skipped
    whole, by_source = score(scored), score_by(scored, "source")
    medians = [each.median_abs_rel_error for each in by_source.values()]
    n_eligible = len(scored) + sum(row.eligible for row in skipped)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "file": validated.path.name,
        "kind": "runs" if validated.is_runs else "serving" if validated.served else "throughput",
        "error": "forecast / measured - 1",
        "unit": "each row's own" if validated.served else scored[0].detail["unit"],
        "n_rows": validated.n_rows,
        "n_eligible": n_eligible,
        "n_predicted": len(scored),
        "median_abs_rel_error": whole.median_abs_rel_error,
        "mean_of_source_medians": sum(medians) / len(medians),
        "p90_abs_rel_error": whole.p90_abs_rel_error,
        "bias": whole.bias,
        "coverage_90": whole.coverage_90,
        "by_source": [{"source": source, **each.to_json()} for source, each in by_source.items()],
        "rows": [row.to_json() for row in scored],
        "skipped": [_skipped_to_json(row) for row in skipped],
    }
    if validated.is_runs:
        document["within"] = {group: _within(rows) for group, rows in _run_groups(scored).items()}
    return document


def _run_groups(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    verified = [row for row in scored if row.detail["verified"]]
    return {
        "verified": verified,
        "verified_with_mfu": [row for row in verified if row.detail["mfu_reported"]],
        "verified_without_mfu": [row for row in verified if not row.detail["mfu_reported"]],
    }


def _within(rows: Sequence[Scored]) -> dict[str, Any]:
    if not rows:
        return {"n": 0, "reason": "no such row"}
    shares = {f"share_within_{factor:g}x": within(rows, factor) for factor in FACTORS}
    return {"n": len(rows), **shares, "coverage_90": score(rows).coverage_90}


def _skipped_to_json(skipped: Skipped) -> dict[str, Any]:
    row = skipped.row
    named = {"source": row.get("source") or row.get("source_title"), "model": row.get("model")}
    return {**named, "chip": row.get("chip"), "eligible": skipped.eligible, "reason": skipped.reason}
