"""Forecasts of whole published runs: chip-hours from architecture, tokens and chips, against what was reported.

A row's hours, days, MFU, energy and cost never reach the forecast. What a row leaves out is assumed as for a user who
does not say: the batch by ``plan.global_batch``, so many chips that the run takes about a month at 40 % of peak, the
parallel plan as the fastest that fits, an unknown shape as Llama's with as many active parameters. Reported hours hold
more than a run: restarts, experiments, evaluation, other stages; what they hold beyond the forecast's pure training
time is shown as the implied overhead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from twobills.counts.flops import train_flops_per_token
from twobills.counts.llama_shape import llama_shape
from twobills.counts.params import sparsity
from twobills.errors import CatalogError, DataError, SpecError
from twobills.flows.validation.rows import (
    Skipped,
    degrees_of,
    fixed_of,
    model_of,
    named_model,
    needed,
    number,
    trained_at,
    whole,
)
from twobills.flows.validation.score import Scored
from twobills.flows.validation.software import stack_of
from twobills.money.rates import Rates
from twobills.plan.global_batch import default_global_batch
from twobills.plan.space import Fixed
from twobills.plan.training import RunPlan, plan_run
from twobills.specs import catalog
from twobills.specs.calibration import Calibration
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.run import TrainingRun
from twobills.specs.running import default_running
from twobills.units import SECONDS_PER_DAY, SECONDS_PER_HOUR

COLUMNS = ("model", "params_total", "params_active", "tokens", "chip", "n_chips", "chip_hours", "wall_days")
ASSUMED_DAYS = 30.0
ASSUMED_MFU = 0.4
ASSUMED_SEQ_LEN = 4096
DENSE_FRAC = 0.95
"""A model whose active parameters are a smaller share of all is a mixture of experts."""
UNPRICED = Rates(usd_per_chip_s=0.0, usd_per_j=0.0, source="not priced", as_of="", assumed=True)


def is_run_table(rows: Sequence[Mapping[str, str]]) -> bool:
    """Whether a table is of whole runs."""
    return "chip_hours" in rows[0]


def forecast_runs(
    rows: Sequence[Mapping[str, str]], calibration: Calibration, where: str
) -> tuple[list[Scored], list[Skipped]]:
    """Every run that can be forecast, and the rest with the reason. Raises DataError if a column is missing."""
    if missing := [name for name in COLUMNS if name not in rows[0]]:
        raise DataError(f"{where}: column {missing[0]!r} is missing; a table of runs has {', '.join(COLUMNS)}")
    scored: list[Scored] = []
    skipped: list[Skipped] = []
    for row in rows:
        try:
            if reason := _not_eligible(row):
                skipped.append(Skipped(row, False, reason))
            else:
                scored.append(forecast_run(row, calibration))
        except (CatalogError, DataError, SpecError) as error:
            skipped.append(Skipped(row, True, str(error)))
    return scored, skipped


def forecast_run(row: Mapping[str, str], calibration: Calibration) -> Scored:
    """One run. Raises CatalogError, DataError or SpecError if it cannot be forecast."""
    plan, dropped = _planned(row, calibration)
    hours = plan.figures.chip_s
    pure_h = plan.figures.train_s.value * plan.cluster.n_chips / SECONDS_PER_HOUR
    measured = _reported_hours(row) or 0.0
    return Scored(
        source=row.get("source_title", row["model"]),
        name=row["model"],
        chip=plan.cluster.chip.name,
        n_chips=plan.cluster.n_chips,
        forecast=hours.value / SECONDS_PER_HOUR,
        p5=hours.p5 / SECONDS_PER_HOUR,
        p95=hours.p95 / SECONDS_PER_HOUR,
        measured=measured,
        detail={
            "unit": "chip_hours",
            "verified": row.get("verified", "") == "yes",
            "mfu_reported": number(row, "mfu_reported") or number(row, "hfu_reported"),
            "mfu_forecast": plan.figures.mfu.value,
            "pure_chip_hours": pure_h,
            "implied_overhead_frac": measured / pure_h - 1,
            "stack": plan.run.stack.value,
            "plan": plan.step.plan.describe(),
            "stated_degrees_dropped": dropped,
            "global_batch_tokens": plan.run.tokens_per_step,
            "n_chips_assumed": not row["n_chips"],
        },
    )


def _planned(row: Mapping[str, str], calibration: Calibration) -> tuple[RunPlan, str | None]:
    """The run, and why the degrees of parallelism that the row states were not taken, if they were not."""
    seq_len = whole(row, "seq_len", blank=ASSUMED_SEQ_LEN)
    model = trained_at(_model(row, seq_len), seq_len)
    n_tokens = needed(row, "tokens")
    fp8 = "fp8" in row.get("precision", "").lower()
    chip = catalog.chip(row["chip"])
    degrees = fixed_of(row)
    cluster = ClusterSpec(chip=chip, n_chips=whole(row, "n_chips", blank=1))
    if not row["n_chips"]:
        cluster = ClusterSpec(chip=chip, n_chips=_assumed_chips(model, n_tokens, seq_len, cluster, degrees))
    run = TrainingRun(
        n_tokens=n_tokens,
        seq_len=seq_len,
        global_batch=default_global_batch(n_tokens, seq_len, cluster.n_chips, sparsity=sparsity(model)),
        dtype=DType.FP8 if fp8 else DType.BF16,
        stack=stack_of(row, degrees_of(row)),
    )
    try:
        return plan_run(model, run, cluster, UNPRICED, default_running(), calibration, fixed=degrees), None
    except SpecError as error:
        free = Fixed(recompute=degrees.recompute)
        if degrees == free:
            raise
        return plan_run(model, run, cluster, UNPRICED, default_running(), calibration, fixed=free), str(error)


def _model(row: Mapping[str, str], seq_len: int) -> ModelSpec:
    total, active = number(row, "params_total"), number(row, "params_active")
    if (named := named_model(row["model"])) is not None:
        return named
    is_dense = not total or not active or active > DENSE_FRAC * total
    try:
        if is_dense:
            return model_of({**row, "seq_len": str(seq_len)})
    except (CatalogError, DataError):
        pass
    if not (active or total):
        raise CatalogError(f"model {row['model']!r}: neither its shape nor its size is known")
    return llama_shape(active or total or 0.0)


def _assumed_chips(model: ModelSpec, n_tokens: float, seq_len: int, one: ClusterSpec, degrees: Fixed) -> int:
    """As many as finish in about a month: a power of two, and a multiple of the degrees that are stated."""
    flops = train_flops_per_token(model, seq_len) * n_tokens
    chips = flops / ((one.train_peak or 0.0) * ASSUMED_MFU * ASSUMED_DAYS * SECONDS_PER_DAY)
    stated = (degrees.tp or 1) * (degrees.pp or 1) * (degrees.cp or 1)
    n = 2 ** max(3, round(math.log2(chips)))
    return n if n % stated == 0 else stated * max(1, round(chips / stated))


def _not_eligible(row: Mapping[str, str]) -> str | None:
    if "post-training" in row["model"]:
        return "post-training, not pre-training"
    if not number(row, "tokens"):
        return "the tokens are not stated"
    if not row["chip"]:
        return "the chip is not stated"
    return None if _reported_hours(row) else "neither chip-hours nor days and chips are stated"


def _reported_hours(row: Mapping[str, str]) -> float | None:
    if hours := number(row, "chip_hours"):
        return hours
    days, chips = number(row, "wall_days"), number(row, "n_chips")
    return days * chips * SECONDS_PER_DAY / SECONDS_PER_HOUR if days and chips else None
