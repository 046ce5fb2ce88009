"""Forecasts of published throughput, row by row: tokens per second and chip against what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twobills.errors import SpecError
from twobills.flows.validation.rows import Skipped, ThroughputRow
from twobills.flows.validation.score import Scored
from twobills.perf.achieved import achieved
from twobills.plan.evaluate import Evaluated, evaluate, fastest
from twobills.plan.interval import around
from twobills.plan.space import layouts_for
from twobills.specs.calibration import Calibration
from twobills.specs.dtype import DType


def forecast_rows(
    rows: Sequence[ThroughputRow | Skipped], calibration: Calibration
) -> tuple[list[Scored], list[Skipped]]:
    """Every row that can be forecast, and those that cannot with the reason."""
    scored, skipped = [], [row for row in rows if isinstance(row, Skipped)]
    for row in rows:
        if isinstance(row, Skipped):
            continue
        try:
            scored.append(forecast_row(row, calibration))
        except SpecError as error:
            named = {"source": row.source, "model": row.name, "chip": row.cluster.chip.name}
            skipped.append(Skipped(named, True, str(error)))
    return scored, skipped


def forecast_row(row: ThroughputRow, calibration: Calibration) -> Scored:
    """One row. Raises SpecError if no parallel plan agrees with what it states."""
    chosen = plan_of(row, calibration)
    seconds = float(chosen.time.seconds[0])
    tokens_per_s = row.global_batch * row.seq_len / seconds / row.cluster.n_chips
    interval = around(tokens_per_s, float(achieved(row.cluster, row.stack, calibration).log_sigma))
    return Scored(
        source=row.source,
        name=row.name,
        chip=row.cluster.chip.name,
        n_chips=row.cluster.n_chips,
        forecast=tokens_per_s,
        p5=interval.p5,
        p95=interval.p95,
        measured=row.tokens_per_s_per_chip,
        detail={
            "unit": "tokens_per_s_per_chip",
            "seq_len": row.seq_len,
            "stack": row.stack.value,
            "plan": chosen.layouts.spec(0).describe(),
            "fits": bool(chosen.fits[0]),
        },
    )


def plan_of(row: ThroughputRow, calibration: Calibration) -> Evaluated:
    """The parallel plan that the row states, what it leaves out chosen as the fastest that fits.

    Raises SpecError if there is none, if the chip lacks the row's format, or if nothing is known of its links.
    """
    fixed, batch = row.fixed, row.global_batch
    row.cluster.check_links()
    if row.fp8:
        row.cluster.peak(DType.FP8)
    layouts = layouts_for(row.model, row.cluster, global_batch=batch, seq_len=row.seq_len, fixed=fixed, fp8=[row.fp8])
    rates = achieved(row.cluster, row.stack, calibration)
    memory_bytes = row.cluster.memory_bytes
    plans = evaluate(row.model, layouts, rates, seq_len=row.seq_len, memory_bytes=memory_bytes)
    chosen = layouts.select(np.array([fastest(plans)]))
    return evaluate(row.model, chosen, rates, seq_len=row.seq_len, memory_bytes=memory_bytes)
