"""Rows of published serving measurements: read as inputs of a forecast, or skipped with a reason.

Tables differ in what they time, so a row has a ``Manner``: one batch from beginning to end, decoding or reading alone,
everything queued at once, clients that wait, or requests at a rate. It is read from what the row states of its engine
and load; a row's own value never reaches the forecast.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from twobills.errors import CatalogError, DataError, SpecError
from twobills.flows.validation.rows import Skipped, needed, number, whole
from twobills.flows.validation.serving_chips import serving_chip
from twobills.specs import catalog
from twobills.specs.cluster import ClusterSpec
from twobills.specs.engine import Engine
from twobills.specs.model import ModelSpec
from twobills.specs.weight_format import WeightFormat

COLUMNS = ("model", "chip", "n_chips", "precision_weights", "engine", "isl", "osl", "concurrency", "metric", "value")


_SMALLEST = 1e-9
"""Below all that a row measures: a smaller value is an empty cell."""


class Manner(StrEnum):
    """What of serving a row timed."""

    STATIC = "static"
    """One batch, read and answered from beginning to end."""
    DECODE = "decode"
    """The answering phase alone."""
    PREFILL = "prefill"
    """The reading phase alone."""
    QUEUED = "queued"
    """All requests at once, the engine decides."""
    CLOSED = "closed"
    """So many clients that each wait for their answer."""
    OPEN = "open"
    """Requests at a rate."""


class Metric(StrEnum):
    """What a row's value is."""

    OUTPUT = "output_tokens_per_s"
    TOTAL = "total_tokens_per_s"
    PREFILL = "prefill_tokens_per_s"
    TTFT = "ttft_s"
    TPOT = "tpot_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingRow:
    """One measurement: the inputs of its forecast, and what was measured, of the whole system."""

    source: str
    place: str
    """File and number of the row in it, the first being 1."""
    name: str
    software: str
    """The engine, as the row names it."""
    model: ModelSpec
    cluster: ClusterSpec
    engine: Engine
    weights: WeightFormat
    kv_bytes: float
    tp: int
    pp: int
    ep: int
    dp: int
    prompt_tokens: float
    answer_tokens: float
    concurrency: float | None
    requests_per_s: float | None
    manner: Manner
    metric: Metric
    measured: float


_EARLY = {
    "vllm": re.compile(r"(202[34]$|(vllm )?v?0\.[0-7](\.|\b))"),
    "sglang": re.compile(r"(sglang )?v?0\.[0-3](\.|\b)"),
}
"""Versions before the schedulers were rewritten: vLLM's of 2025 (0.8), SGLang's of December 2024 (0.4)."""
_ENGINES = (
    ("tensorrt", Engine.TENSORRT),
    ("habana", Engine.TENSORRT),
    ("sambaflow", Engine.TENSORRT),
    ("neuronx", Engine.TENSORRT),
    ("tt-metal", Engine.TENSORRT),
    ("vllm", Engine.SERVER),
    ("sglang", Engine.SERVER),
    ("llama.cpp", Engine.NATIVE),
    ("gpt-fast", Engine.SINGLE),
    ("exllama", Engine.SINGLE),
    ("mlc", Engine.SINGLE),
)


def serving_rows(rows: list[dict[str, str]], where: str) -> Iterator[ServingRow | Skipped]:
    """Each row as inputs and measurement, or skipped. Raises DataError if a column that we need is missing."""
    if missing := [name for name in COLUMNS if name not in rows[0]]:
        raise DataError(f"{where}: column {missing[0]!r} is missing; a serving table has {', '.join(COLUMNS)}")
    file = Path(where).name
    for i, row in enumerate(rows, start=1):
        yield _read(row, f"{file}:{i}")


def engine_of(text: str, version: str = "") -> Engine:
    """The class of an engine's name and version; a version that is not stated is taken as recent."""
    word, found = next(((word, engine) for word, engine in _ENGINES if word in text.lower()), ("", Engine.GENERIC))
    early = _EARLY.get(word)
    return Engine.EARLY if early and early.match(version.strip().lower()) else found


def _read(row: Mapping[str, str], place: str) -> ServingRow | Skipped:
    for key, meaning in (("isl", "prompt length"), ("osl", "answer length"), ("n_chips", "number of chips")):
        if not row[key]:
            return Skipped(row, False, f"the {meaning} is not stated")
    if not row["precision_weights"]:
        return Skipped(row, False, "the format of the weights is not stated")
    if row["metric"] not in set(Metric):
        return Skipped(row, False, f"metric {row['metric']} is not forecast")
    try:
        manner = _manner(row)
        if manner is None:
            return Skipped(row, False, "neither concurrency nor a request rate is stated")
        n_chips = whole(row, "n_chips")
        metric = Metric(row["metric"])
        weights = WeightFormat.parse(row["precision_weights"])
        tp, pp, ep, dp = _degrees(row, n_chips)
        cluster = ClusterSpec(chip=serving_chip(row["chip"]).chip, n_chips=n_chips)
        per_chip = row.get("scope") == "per_chip" and metric not in (Metric.TTFT, Metric.TPOT)
        rate = number(row, "request_rate") if row.get("request_rate") not in ("", "inf", None) else None
        concurrency = None if row["concurrency"] in ("", "max") else _at_least(1, row, "concurrency")
        return ServingRow(
            source=row.get("source_title") or "not stated",
            place=place,
            name=row["model"],
            software=row["engine"],
            model=catalog.model(row["model"]),
            cluster=cluster,
            engine=engine_of(row["engine"], row.get("engine_version", "")),
            weights=weights,
            kv_bytes=_kv_bytes(row, weights),
            tp=tp,
            pp=pp,
            ep=ep,
            dp=dp,
            prompt_tokens=_at_least(0 if manner is Manner.DECODE else 1, row, "isl") * _mean_length(row),
            answer_tokens=_at_least(0 if manner is Manner.PREFILL else 1, row, "osl") * _mean_length(row),
            concurrency=concurrency,
            requests_per_s=rate,
            manner=manner,
            metric=metric,
            measured=_at_least(_SMALLEST, row, "value") * (n_chips if per_chip else 1),
        )
    except (CatalogError, SpecError, DataError) as error:
        return Skipped(row, True, str(error))


def _manner(row: Mapping[str, str]) -> Manner | None:
    note, engine = row.get("note", "").lower(), row["engine"].lower()
    if row["metric"] == Metric.PREFILL:
        return Manner.PREFILL
    if row["metric"] == Metric.OUTPUT and (row["isl"] == "0" or "decode phase only" in note or "decode only" in note):
        return Manner.DECODE
    if row["concurrency"] == "max":
        return Manner.QUEUED
    if row.get("request_rate") not in ("", "inf", None):
        return Manner.OPEN
    if not row["concurrency"]:
        return None
    alone = "static batch" in note or "static" in engine or "batch 1 decode" in note or "medians" in note
    one_stream = engine_of(engine) in (Engine.SINGLE, Engine.GENERIC)
    return Manner.STATIC if alone or one_stream else Manner.CLOSED


def _degrees(row: Mapping[str, str], n_chips: int) -> tuple[int, int, int, int]:
    """tp, pp, ep, dp: as stated; the rest by tensor parallelism, or layer by layer where the engine does that.

    Engines also call attention data parallelism "TP8 DP8" of the same eight chips: tp is what dp leaves.
    """
    tp, pp, ep, dp = (int(number(row, key) or 0) for key in ("tp", "pp", "ep", "dp"))
    if not tp and not pp and engine_of(row["engine"]) is Engine.NATIVE:
        return 1, n_chips, 1, 1
    pp, dp = pp or 1, dp or 1
    left = max(n_chips // (pp * dp), 1)
    tp = min(tp, left) if tp and dp > 1 else tp or left
    if tp * pp * dp > n_chips:
        raise DataError(f"tp={tp} x pp={pp} x dp={dp}: more than n_chips={n_chips}")
    return tp, pp, ep or 1, dp


def _at_least(least: float, row: Mapping[str, str], key: str) -> float:
    value = needed(row, key)
    if value < least:
        raise DataError(f"{key}={row[key]!r}: must be {'above 0' if least < 1 else f'at least {least:g}'}")
    return value


def _mean_length(row: Mapping[str, str]) -> float:
    """Mean lengths over those printed, where the benchmark says that it draws them from a range."""
    drawn = re.search(r"uniformly from ([\d.]+) to ([\d.]+) of", row.get("note", ""))
    return (float(drawn[1]) + float(drawn[2])) / 2 if drawn else 1.0


def _kv_bytes(row: Mapping[str, str], weights: WeightFormat) -> float:
    """Of a number of the cache: as stated, else 8 bits where a compiled server's weights have no more (its default)."""
    if stated := row.get("precision_kv", ""):
        return WeightFormat.parse(stated).bytes_per_weight
    compiled = engine_of(row["engine"]) is Engine.TENSORRT
    return 1.0 if compiled and weights.bits_per_weight <= 8 else 2.0
