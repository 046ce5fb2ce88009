"""What a table of serving measurements says about a row's inputs: its manner, engine, degrees, lengths, or why not."""

from __future__ import annotations

import pytest

from twobills.errors import DataError
from twobills.flows.validation.rows import Skipped
from twobills.flows.validation.serving_rows import Manner, Metric, ServingRow, engine_of, serving_rows
from twobills.specs.engine import Engine

STATED = {
    "source_title": "a table",
    "model": "Llama 3.1 8B",
    "chip": "H100 SXM 80GB",
    "n_chips": "8",
    "tp": "8",
    "pp": "",
    "ep": "",
    "dp": "",
    "precision_weights": "fp8",
    "precision_kv": "",
    "engine": "vLLM",
    "engine_version": "0.10.0",
    "isl": "1000",
    "osl": "500",
    "concurrency": "16",
    "request_rate": "",
    "metric": "output_tokens_per_s",
    "value": "1234",
    "scope": "per_system",
    "note": "",
}


def read(**changes: str) -> ServingRow | Skipped:
    return next(serving_rows([{**STATED, **changes}], "table"))


def forecastable(**changes: str) -> ServingRow:
    row = read(**changes)
    assert isinstance(row, ServingRow), row
    return row


def test_a_row_is_read_as_it_stands() -> None:
    row = forecastable()
    assert (row.source, row.name, row.model.name) == ("a table", "Llama 3.1 8B", "llama-3.1-8b")
    assert (row.cluster.chip.name, row.cluster.n_chips) == ("h100-sxm", 8)
    assert (row.tp, row.pp, row.ep, row.dp) == (8, 1, 1, 1)
    assert (row.prompt_tokens, row.answer_tokens, row.concurrency) == (1000, 500, 16)
    assert (row.weights.name, row.kv_bytes, row.engine) == ("fp8", 2.0, Engine.SERVER)
    assert (row.manner, row.metric, row.measured) == (Manner.CLOSED, Metric.OUTPUT, 1234)


@pytest.mark.parametrize(
    ("changes", "manner"),
    [
        ({}, Manner.CLOSED),
        ({"concurrency": "max", "request_rate": "inf"}, Manner.QUEUED),
        ({"concurrency": "", "request_rate": "3.5"}, Manner.OPEN),
        ({"metric": "prefill_tokens_per_s"}, Manner.PREFILL),
        ({"isl": "0"}, Manner.DECODE),
        ({"note": "decode phase only"}, Manner.DECODE),
        ({"note": "decode phase only", "metric": "ttft_s"}, Manner.CLOSED),
        ({"note": "Static batch"}, Manner.STATIC),
        ({"engine": "TensorRT-LLM (static batch)"}, Manner.STATIC),
        ({"engine": "gpt-fast", "concurrency": "1"}, Manner.STATIC),
        ({"engine": "transformers", "concurrency": "1"}, Manner.STATIC),
    ],
)
def test_the_manner_is_read_from_what_the_row_states(changes: dict[str, str], manner: Manner) -> None:
    assert forecastable(**changes).manner is manner


@pytest.mark.parametrize("metric", Metric)
def test_every_metric_is_read(metric: Metric) -> None:
    assert forecastable(metric=metric.value).metric is metric


@pytest.mark.parametrize(
    ("text", "version", "engine"),
    [
        ("TensorRT-LLM (PyTorch backend)", "1.0", Engine.TENSORRT),
        ("vLLM", "", Engine.SERVER),
        ("vLLM", "0.10.0", Engine.SERVER),
        ("vLLM", "0.19.1", Engine.SERVER),
        ("vLLM", "vLLM 0.9.0, PyTorch 2.7.0", Engine.SERVER),
        ("vLLM", "2024", Engine.EARLY),
        ("vLLM", "v0.6.3", Engine.EARLY),
        ("vLLM", "0.7", Engine.EARLY),
        ("vLLM", "vLLM 0.4.3+rocm614, PyTorch 2.3.0", Engine.EARLY),
        ("SGLang", "0.5.6.post2", Engine.SERVER),
        ("SGLang", "0.4.1", Engine.SERVER),
        ("SGLang", "v0.2.7", Engine.EARLY),
        ("llama.cpp (llama-bench)", "May 2024", Engine.NATIVE),
        ("gpt-fast", "", Engine.SINGLE),
        ("ExLlamaV2", "", Engine.SINGLE),
        ("MLC LLM", "", Engine.SINGLE),
        ("transformers", "2024", Engine.GENERIC),
    ],
)
def test_an_engine_is_known_by_name_and_version(text: str, version: str, engine: Engine) -> None:
    """vLLM's scheduler was rewritten for 0.8 (2025), SGLang's for 0.4 (December 2024)."""
    assert engine_of(text, version) is engine


@pytest.mark.parametrize(
    ("changes", "degrees"),
    [
        ({"tp": ""}, (8, 1, 1, 1)),
        ({"tp": "", "pp": "2"}, (4, 2, 1, 1)),
        ({"tp": "1", "dp": "8", "ep": "8"}, (1, 1, 8, 8)),
        ({"tp": "2", "dp": "4"}, (2, 1, 1, 4)),
        ({"tp": "8", "dp": "8", "ep": "8"}, (1, 1, 8, 8)),
        ({"tp": "8", "ep": "4"}, (8, 1, 4, 1)),
        ({"tp": "", "engine": "llama.cpp"}, (1, 8, 1, 1)),
    ],
)
def test_degrees_are_the_stated_ones_and_use_the_chips_once(
    changes: dict[str, str], degrees: tuple[int, int, int, int]
) -> None:
    row = forecastable(**changes)
    assert (row.tp, row.pp, row.ep, row.dp) == degrees
    assert row.tp * row.pp * row.dp == row.cluster.n_chips


def test_a_rate_per_chip_is_of_all_of_them_but_a_latency_is_not() -> None:
    assert forecastable(scope="per_chip").measured == 8 * 1234
    assert forecastable(scope="per_chip", metric="ttft_s", value="0.25").measured == 0.25
    assert forecastable(scope="per_user", metric="tpot_s", value="0.01").measured == 0.01


def test_lengths_drawn_from_a_range_have_its_mean() -> None:
    row = forecastable(note="random prompts; lengths drawn uniformly from 0.8 to 1.0 of isl and osl")
    assert row.prompt_tokens == pytest.approx(900)
    assert row.answer_tokens == pytest.approx(450)


@pytest.mark.parametrize(
    ("changes", "kv_bytes"),
    [
        ({}, 2.0),
        ({"precision_kv": "fp8"}, 1.0),
        ({"engine": "TensorRT-LLM"}, 1.0),
        ({"engine": "TensorRT-LLM", "precision_weights": "fp16"}, 2.0),
        ({"engine": "TensorRT-LLM", "precision_kv": "fp16"}, 2.0),
    ],
)
def test_the_cache_is_as_stated_or_the_engines_default(changes: dict[str, str], kv_bytes: float) -> None:
    assert forecastable(**changes).kv_bytes == kv_bytes


@pytest.mark.parametrize(
    ("changes", "eligible", "reason"),
    [
        ({"isl": ""}, False, "the prompt length is not stated"),
        ({"osl": ""}, False, "the answer length is not stated"),
        ({"n_chips": ""}, False, "the number of chips is not stated"),
        ({"precision_weights": ""}, False, "the format of the weights is not stated"),
        ({"metric": "request_latency_s"}, False, "metric request_latency_s is not forecast"),
        ({"concurrency": ""}, False, "neither concurrency nor a request rate is stated"),
        ({"precision_weights": "fp7"}, True, "weight format 'fp7': unknown"),
        ({"model": "Nobody 3B"}, True, "not in the catalogue"),
        ({"chip": "abacus-9"}, True, "abacus-9"),
        ({"chip": "H100 SXM 80GB + A100"}, True, "more than one kind of chip"),
        ({"isl": "long"}, True, "isl='long': not a number"),
        ({"osl": "-5"}, True, "osl='-5': not a number of at least 0"),
        ({"concurrency": "many"}, True, "concurrency='many': not a number"),
        ({"value": ""}, True, "value is missing"),
        ({"n_chips": "0"}, True, "n_chips"),
        ({"n_chips": "2.5"}, True, "n_chips='2.5': must be a whole number"),
        ({"osl": "0"}, True, "osl='0'"),
        ({"concurrency": "0"}, True, "concurrency='0'"),
        ({"value": "0"}, True, "value='0'"),
        ({"tp": "16"}, True, "more than n_chips=8"),
        ({"isl": "0", "metric": "ttft_s"}, True, "isl='0'"),
    ],
)
def test_a_row_that_cannot_be_forecast_is_skipped_with_its_reason(
    changes: dict[str, str], eligible: bool, reason: str
) -> None:
    row = read(**changes)
    assert isinstance(row, Skipped), row
    assert row.eligible is eligible
    assert reason in row.reason


def test_a_table_of_something_else_is_refused() -> None:
    with pytest.raises(DataError, match="column 'chip' is missing"):
        next(serving_rows([{"model": "Llama 3.1 8B"}], "table"))
