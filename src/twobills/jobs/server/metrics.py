"""What ``/metrics`` says: vLLM's names, so that dashboards and autoscalers work, and ours for the bill.

Intervals are vLLM's: queue from arrival to first scheduled, prefill from there to the first token, decode
from the first token to the last, time to first token from arrival. Joules carry how they are known as the
label ``stamp``. What lives in the engine and the meter is read when somebody asks; only distributions are
kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from twobills.jobs.inference.engine import Engine
from twobills.meter.meter import Meter
from twobills.serving.request import Request
from twobills.usage import Stamp, Usage

_SECONDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_GAPS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
)
_TOKENS = tuple(float(m * 10**e) for e in range(5) for m in (1, 2, 5))
_HISTOGRAMS = {
    "time_to_first_token_seconds": ("Arrival to first token.", _SECONDS),
    "inter_token_latency_seconds": ("Gap between an answer's tokens.", _GAPS),
    "e2e_request_latency_seconds": ("Arrival to last token.", _SECONDS),
    "request_queue_time_seconds": ("Arrival to first scheduled.", _SECONDS),
    "request_prefill_time_seconds": ("First scheduled to first token.", _SECONDS),
    "request_decode_time_seconds": ("First token to last token.", _SECONDS),
    "request_inference_time_seconds": ("First scheduled to last token.", _SECONDS),
    "request_prompt_tokens": ("Prompt tokens of a request.", _TOKENS),
    "request_generation_tokens": ("Generated tokens of a request.", _TOKENS),
}


class ServerMetrics:
    """One server's metrics, in a registry of its own. The engine's thread writes, any thread reads."""

    def __init__(self, engine: Engine, meter: Meter | None) -> None:
        self._engine, self._meter = engine, meter
        self._registry = CollectorRegistry()
        self._last_token_s: dict[str, float] = {}
        self._histograms: dict[str, Histogram] = {}
        self._success: Counter | None = None
        self._model_name = ""

    def open(self, model_name: str, price: Callable[[Usage], float] | None) -> None:
        """Names the model and, if there is one, the price; before the first request."""
        if self._success is not None:
            return
        self._model_name = model_name
        for name, (text, buckets) in _HISTOGRAMS.items():
            histogram = Histogram(f"vllm:{name}", text, ["model_name"], registry=self._registry, buckets=buckets)
            self._histograms[name] = histogram.labels(model_name)
        self._success = Counter(
            "vllm:request_success",
            "Finished requests.",
            ["model_name", "finished_reason"],
            registry=self._registry,
        )
        self._registry.register(_Live(self._engine, self._meter, model_name, price))

    def render(self) -> bytes:
        """The page, in Prometheus's text format."""
        return generate_latest(self._registry)

    def token(self, request: Request, now_s: float) -> None:
        """A request got a token."""
        if (last_s := self._last_token_s.get(request.id)) is None:
            self._observe("time_to_first_token_seconds", now_s - request.arrival_s)
        else:
            self._observe("inter_token_latency_seconds", now_s - last_s)
        self._last_token_s[request.id] = now_s

    def finished(self, request: Request) -> None:
        """A request ended, one way or another."""
        self._last_token_s.pop(request.id, None)
        if self._success and request.finish_reason:
            self._success.labels(self._model_name, request.finish_reason.value).inc()
        first_s, scheduled_s, finished_s = request.first_token_s, request.scheduled_s, request.finished_s
        if first_s is None or scheduled_s is None or finished_s is None:
            return
        self._observe("e2e_request_latency_seconds", finished_s - request.arrival_s)
        self._observe("request_queue_time_seconds", scheduled_s - request.arrival_s)
        self._observe("request_prefill_time_seconds", first_s - scheduled_s)
        self._observe("request_decode_time_seconds", finished_s - first_s)
        self._observe("request_inference_time_seconds", finished_s - scheduled_s)
        self._observe("request_prompt_tokens", len(request.prompt_token_ids))
        self._observe("request_generation_tokens", len(request.output_token_ids))

    def _observe(self, name: str, value: float) -> None:
        if histogram := self._histograms.get(name):
            histogram.observe(value)


class _Live(Collector):
    """Reads the engine and the meter when asked."""

    def __init__(
        self, engine: Engine, meter: Meter | None, model_name: str, price: Callable[[Usage], float] | None
    ) -> None:
        self._engine, self._meter, self._model_name, self._price = engine, meter, model_name, price

    def collect(self) -> Iterable[Metric]:
        """All families, engine first."""
        yield from self._engine_families()
        if self._meter:
            yield from self._meter_families(self._meter.usage())

    def _engine_families(self) -> Iterator[Metric]:
        engine, scheduler = self._engine, self._engine.scheduler
        yield self._gauge("vllm:num_requests_running", "Requests in the batch.", scheduler.n_running)
        yield self._gauge("vllm:num_requests_waiting", "Requests in the queue.", scheduler.n_waiting)
        yield self._gauge("vllm:kv_cache_usage_perc", "KV cache in use, 0 to 1.", scheduler.pool.used_frac)
        yield self._counter("vllm:prompt_tokens", "Prompt tokens processed.", engine.n_prompt)
        yield self._counter("vllm:generation_tokens", "Tokens generated.", engine.n_generated)
        yield self._counter("vllm:num_preemptions", "Requests that lost their cache.", scheduler.n_preemptions)

    def _meter_families(self, usage: Usage) -> Iterator[Metric]:
        labels = ["model_name", "phase"]
        joules = CounterMetricFamily("twobills_joules", "Energy by phase.", labels=[*labels, "stamp"])
        flops = CounterMetricFamily("twobills_flops", "Executed FLOPs by phase.", labels=labels)
        chip_s = CounterMetricFamily("twobills_chip_seconds", "Chip-seconds by phase.", labels=labels)
        usd = CounterMetricFamily("twobills_usd", "Dollars by phase.", labels=labels)
        for phase, used in usage.phases.items():
            values = [self._model_name, phase.value]
            flops.add_metric(values, used.flops)
            chip_s.add_metric(values, used.chip_s)
            for stamp in Stamp:
                if amount := getattr(used.energy, f"{stamp.value}_j"):
                    joules.add_metric([*values, stamp.value], amount)
            if self._price:
                alone = Usage(job=usage.job, origin=usage.origin, phases={phase: used})
                usd.add_metric(values, self._price(alone))
        yield from (joules, flops, chip_s, usd)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["model_name"])
        family.add_metric([self._model_name], value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, text, labels=["model_name"])
        family.add_metric([self._model_name], value)
        return family
