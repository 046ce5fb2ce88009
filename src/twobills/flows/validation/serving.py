"""Forecasts of published serving measurements, all rows of one model in one pass.

A row that times a batch, one phase or a full queue is a few steps, counted once and timed under any calibration.
Clients that wait are running nearly always; a benchmark lets all begin at once, and that first wave, in which each
prompt waits for half of the others, is a part of its mean. Rows with a rate need their steady state sought first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twobills.counts.serving_step import ServingWork, Situations, serving_step
from twobills.flows.validation.score import Scored
from twobills.flows.validation.serving_rows import Manner, Metric, ServingRow
from twobills.perf.serving_step import ServingRates, product_group, rates_table, serving_rates, serving_step_s
from twobills.plan.interval import around
from twobills.plan.steady import Instance, most_running, steady_state
from twobills.specs.load import Load
from twobills.specs.serving_calibration import ServingCalibration, sigma_of

Array = NDArray[np.floating[Any]]
SETTLED = (Manner.OPEN,)
REQUESTS_PER_CLIENT = 10
"""Assumed of benchmarks with waiting clients, as common ones do: what the first wave is a part of."""


class Counted(NamedTuple):
    """Rows of one model whose steps are known: reading, and answering with or without reading."""

    at: list[int]
    """Where the rows stand among all."""
    rows: list[ServingRow]
    batch: Array
    reading: ServingWork
    answering: ServingWork
    beside: ServingWork
    """Answering in a step that also holds prompts."""
    beside_share: Array
    """Of the steps that answer, those."""


def counted(rows: Sequence[ServingRow]) -> list[Counted]:
    """The steps of all rows that need no steady state, by model."""
    by_model: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row.manner not in SETTLED:
            by_model.setdefault(row.model.name, []).append(i)
    return [_counted(at, [rows[i] for i in at]) for at in by_model.values()]


def forecasts(rows: Sequence[ServingRow], groups: Sequence[Counted], calibration: ServingCalibration) -> Array:
    """What each row measured, as forecast; nan for rows that need a steady state."""
    found = np.full(len(rows), np.nan)
    for group in groups:
        rates = rates_table([_rates(row, calibration) for row in group.rows])
        found[group.at] = _values(group, rates)
    return found


def forecast_serving(rows: Sequence[ServingRow], calibration: ServingCalibration) -> list[Scored]:
    """Every row with its interval, but for latencies beyond saturation, which there are none of."""
    values = forecasts(rows, counted(rows), calibration)
    for i, row in enumerate(rows):
        if row.manner in SETTLED:
            values[i] = _settled(row, calibration)
    both = zip(rows, values, strict=True)
    return [_scored(row, float(value), calibration) for row, value in both if np.isfinite(value)]


def _counted(at: list[int], rows: list[ServingRow]) -> Counted:
    column = _columns(rows)
    prompt, answer = column("prompt_tokens"), column("answer_tokens")
    manner = np.array([row.manner for row in rows])
    instance = _instance(rows)
    queued = manner == Manner.QUEUED
    model = rows[0].model
    fits = most_running(model, instance, prompt=prompt, answer=answer)
    batch = np.where(queued, fits, column("concurrency"))
    batch = np.maximum(np.where(manner == Manner.CLOSED, np.minimum(batch, fits), batch), 1.0)
    context = np.where(prompt == 0, answer / 2, prompt + answer / 2)
    turn = np.maximum(batch / instance.pp, np.where(queued, 0.0, 1.0))
    closed = manner == Manner.CLOSED
    finished = np.where(queued | closed, turn / np.maximum(answer, 1.0), 0.0)
    share = np.minimum(finished, 1.0)
    read = prompt * finished / np.where(share > 0, share, 1.0)
    zero, length = 0 * batch, np.maximum(prompt, 1.0)
    together = np.where(closed, 1.0, batch)
    return Counted(
        at,
        rows,
        batch,
        reading=serving_step(model, _situation(instance, zero, zero + 1, together * prompt, length)),
        answering=serving_step(model, _situation(instance, turn, context, zero, length)),
        beside=serving_step(model, _situation(instance, turn, context, read, length)),
        beside_share=share,
    )


def _values(group: Counted, rates: ServingRates) -> Array:
    column = _columns(group.rows)
    prompt, answer = column("prompt_tokens"), column("answer_tokens")
    reading_s, alone_s = serving_step_s(group.reading, rates), serving_step_s(group.answering, rates)
    step_s = alone_s + group.beside_share * (serving_step_s(group.beside, rates) - alone_s)
    whole_s = reading_s + np.maximum(answer - 1, 0) * step_s
    manner = np.array([row.manner for row in group.rows])
    metric = np.array([row.metric for row in group.rows])
    closed = manner == Manner.CLOSED
    clients = column("concurrency")
    first_wave = reading_s * clients / (2 * REQUESTS_PER_CLIENT)
    held_back = np.maximum(clients / group.batch - 1, 0.0) * whole_s
    read_s = np.where(closed, reading_s * rates.prompt_wait + 1.5 * step_s + first_wave + held_back, reading_s)
    whole_s = read_s + np.maximum(answer - 1, 0) * step_s
    in_batches = (manner == Manner.STATIC) | closed
    answered = np.where(in_batches, clients * answer / whole_s, group.batch / step_s)
    choices: dict[Metric, Array] = {
        Metric.OUTPUT: answered,
        Metric.TOTAL: answered * (1 + prompt / np.maximum(answer, 1.0)),
        Metric.PREFILL: group.batch * prompt / reading_s,
        Metric.TTFT: read_s,
        Metric.TPOT: step_s,
    }
    return np.asarray(sum(np.where(metric == name, value, 0.0) for name, value in choices.items()))


def _settled(row: ServingRow, calibration: ServingCalibration) -> float:
    load = Load(
        prompt_tokens=max(row.prompt_tokens, 1.0),
        answer_tokens=max(row.answer_tokens, 1.0),
        requests_per_s=row.requests_per_s,
    )
    rates = rates_table([_rates(row, calibration)])
    state = steady_state(row.model, _instance([row]), rates, load)
    per_answer = {Metric.OUTPUT: row.answer_tokens, Metric.TOTAL: row.answer_tokens + row.prompt_tokens}
    if row.metric in per_answer:
        return float(state.answers_per_s[0]) * per_answer[row.metric]
    return float((state.ttft_s if row.metric is Metric.TTFT else state.tpot_s)[0])


def _scored(row: ServingRow, value: float, calibration: ServingCalibration) -> Scored:
    interval = around(value, sigma_of(calibration, row.engine, product_group(row.cluster.chip)))
    return Scored(
        source=row.source,
        name=row.name,
        chip=row.cluster.chip.name,
        n_chips=row.cluster.n_chips,
        forecast=value,
        p5=interval.p5,
        p95=interval.p95,
        measured=row.measured,
        detail={
            "place": row.place,
            "unit": row.metric.value,
            "manner": row.manner.value,
            "engine": row.engine.value,
            "software": row.software,
            "weights": row.weights.name,
            "plan": f"tp{row.tp} pp{row.pp} ep{row.ep} dp{row.dp}",
            "prompt_tokens": row.prompt_tokens,
            "answer_tokens": row.answer_tokens,
            "concurrency": row.concurrency,
        },
    )


def _rates(row: ServingRow, calibration: ServingCalibration) -> ServingRates:
    return serving_rates(row.cluster, row.engine, row.weights.compute, calibration)


def _instance(rows: Sequence[ServingRow]) -> Instance:
    column = _columns(rows)
    return Instance(
        tp=column("tp"),
        pp=column("pp"),
        ep=column("ep"),
        dp=column("dp"),
        weight_bytes=np.array([row.weights.bytes_per_weight for row in rows]),
        kv_bytes=column("kv_bytes"),
        memory_bytes=np.array([row.cluster.memory_bytes for row in rows]),
    )


def _situation(i: Instance, n_decode: Array, context: Array, n_prompt: Array, prompt_context: Array) -> Situations:
    return Situations(i.tp, i.pp, i.ep, i.dp, i.weight_bytes, i.kv_bytes, n_decode, context, n_prompt, prompt_context)


def _columns(rows: Sequence[ServingRow]) -> Callable[[str], Array]:
    """A field of all rows as a column; a batch that is not stated is 1."""

    def column(name: str) -> Array:
        absent = 0.0 if name.endswith("tokens") else 1.0
        return np.array([float(getattr(row, name) or absent) for row in rows])

    return column
