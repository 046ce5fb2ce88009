"""The predicted inference bill of a load: the serving simulator on a virtual clock, with forecast step times.

The simulator runs the engine's own scheduler, so prompts, batches and waiting are those that the engine would
have; only the seconds of a step are forecast: its operations, and the host's work of handing each token to a client.
Idle chip-seconds are those in which no request is there, and the start-up that the caller states.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

from twobills.counts.flops import forward_flops
from twobills.counts.memory import engine_weight_bytes, kv_bytes_per_token, weight_bytes
from twobills.errors import SpecError
from twobills.money.bill import Bill, price
from twobills.money.rates import Rates
from twobills.perf.energy import declared_energy
from twobills.perf.step import engine_step
from twobills.plan.interval import Interval, around
from twobills.serving.metrics import Latencies, latencies
from twobills.serving.request import Request, SamplingParams
from twobills.serving.scheduler import Batch
from twobills.serving.simulate import SimulationResult, simulate
from twobills.specs.experience import JobExperience, Part
from twobills.specs.hardware import MachineSpec
from twobills.specs.model import ModelSpec
from twobills.specs.serving import ServingSpec
from twobills.specs.workload import Workload
from twobills.units import show_bytes
from twobills.usage import Job, Origin, Phase, PhaseUsage, Usage

STREAM_S_PER_TOKEN = 1.5e-4
"""Assumed: host seconds to turn a token into text and stream it over HTTP, beside an engine in the same process."""
HOST_LOG_SIGMA = 0.25
"""Assumed: how far that host work makes a forecast miss, beyond the error of the operations' forecast."""


class InferencePlan(NamedTuple):
    """A load that has not come yet: how it should run and what it should cost."""

    workload: Workload
    bill: Bill
    wall_s: Interval
    total_usd: Interval
    output_tokens_per_s: float
    latencies: Latencies
    learned: JobExperience | None
    """The runs of this machine that the plan is calibrated on."""


def plan_inference(
    model: ModelSpec,
    serving: ServingSpec,
    workload: Workload,
    machine: MachineSpec,
    rates: Rates,
    *,
    startup_s: float = 0.0,
) -> InferencePlan:
    """Simulates the load and prices it. ``startup_s``: seconds before the first request, idle and paid for.

    Raises SpecError if the contexts are longer than the model's or the engine does not fit in memory.
    """
    _check_fits(model, serving, workload, machine)
    params = SamplingParams(max_tokens=workload.answer_tokens, ignore_eos=True)
    requests = [
        Request(id=str(i), prompt_token_ids=[0] * workload.prompt_tokens, params=params, arrival_s=0.0)
        for i in range(workload.n_requests)
    ]
    startup_s *= machine.experience.slower(Part.IDLE)
    forecast = _Forecast(model, serving, machine)
    result = simulate(
        requests, serving, forecast.step_s, concurrency=workload.concurrency, prefill_share=forecast.prefill_time_share
    )
    usage = forecast.usage(result, startup_s)
    bill = price(usage, rates)
    sigma = serving_log_sigma(machine)
    return InferencePlan(
        workload=workload,
        bill=bill,
        wall_s=around(result.end_s + startup_s, sigma),
        total_usd=around(bill.total_usd, sigma),
        output_tokens_per_s=workload.n_requests * workload.answer_tokens / result.end_s,
        latencies=latencies(result.requests),
        learned=machine.experience.inference,
    )


def serving_log_sigma(machine: MachineSpec) -> float:
    """Standard deviation of ln(actual / forecast) of serving here: what runs taught, else the assumed errors."""
    learned = machine.experience.inference
    return learned.log_sigma if learned else math.hypot(machine.efficiency.log_sigma, HOST_LOG_SIGMA)


def inference_plan_to_json(plan: InferencePlan) -> dict[str, Any]:
    """The plan as plain JSON, base units in the key names."""
    return {
        "n_requests": plan.workload.n_requests,
        "prompt_tokens": plan.workload.prompt_tokens,
        "answer_tokens": plan.workload.answer_tokens,
        "concurrency": plan.workload.concurrency,
        "wall_s": plan.wall_s.to_json(),
        "total_usd": plan.total_usd.to_json(),
        "output_tokens_per_s": plan.output_tokens_per_s,
        "ttft_s": plan.latencies.ttft_s._asdict() if plan.latencies.ttft_s else None,
        "tpot_s": plan.latencies.tpot_s._asdict() if plan.latencies.tpot_s else None,
        "calibration": plan.learned.to_json() if plan.learned else None,
        "bill": plan.bill.to_json(),
    }


class _Forecast:
    """Step times and usage of one model on one machine."""

    def __init__(self, model: ModelSpec, serving: ServingSpec, machine: MachineSpec) -> None:
        self._model, self._serving, self._machine = model, serving, machine
        if serving.n_threads and serving.n_threads < machine.n_chips:
            slower = machine.efficiency.on_cores(serving.n_threads, machine.n_chips)
            self._machine = replace(machine, efficiency=slower)
        self._weight_bytes = engine_weight_bytes(model, serving.dtype)
        self._kv_bytes = kv_bytes_per_token(model, serving.dtype)
        self._flops: dict[Phase, float] = {Phase.PREFILL: 0.0, Phase.DECODE: 0.0}
        self._bytes = dict(self._flops)

    def step_s(self, batch: Batch) -> float:
        """Seconds of one engine step; its FLOPs and bytes are kept for the bill."""
        load = batch.executed_load(self._serving.kv_block_tokens)
        step = engine_step(
            self._model,
            self._machine,
            n_tokens=load.n_tokens,
            n_attended=load.n_attended,
            n_logits=load.n_logits,
            n_chunks=len(batch.prefills) + bool(batch.decodes),
            dtype=self._serving.dtype,
        )
        share = self.prefill_share(batch)
        kv_tokens = {
            Phase.PREFILL: sum(chunk.end + chunk.n_tokens for chunk in batch.prefills),
            Phase.DECODE: load.n_decode_attended + load.n_decode_tokens,
        }
        for phase, part in ((Phase.PREFILL, share), (Phase.DECODE, 1 - share)):
            self._flops[phase] += step.flops * part
            self._bytes[phase] += self._weight_bytes * part + self._kv_bytes * kv_tokens[phase]
        prefill, decode = self._slower(share)
        return (prefill + decode) * (step.seconds + load.n_logits * STREAM_S_PER_TOKEN)

    def prefill_share(self, batch: Batch) -> float:
        """The part of a step's FLOPs that is prompts', by which the meter splits its time too."""
        load = batch.executed_load(self._serving.kv_block_tokens)
        prefill = forward_flops(
            self._model,
            n_tokens=load.n_prefill_tokens,
            n_attended=load.n_prefill_attended,
            n_logits=load.n_prefill_logits,
        )
        whole = forward_flops(self._model, n_tokens=load.n_tokens, n_attended=load.n_attended, n_logits=load.n_logits)
        return prefill / whole

    def prefill_time_share(self, batch: Batch) -> float:
        """The part of a step's seconds that is prompts': of its FLOPs, each phase as much slower as runs taught."""
        prefill, decode = self._slower(self.prefill_share(batch))
        return prefill / (prefill + decode)

    def _slower(self, share: float) -> tuple[float, float]:
        """The seconds of both phases in a step, over the step's seconds as forecast without experience."""
        experience = self._machine.experience
        return share * experience.slower(Part.PREFILL), (1 - share) * experience.slower(Part.DECODE)

    def usage(self, result: SimulationResult, startup_s: float) -> Usage:
        """What the simulated load used, by phase."""
        seconds = {
            Phase.PREFILL: result.prefill_s,
            Phase.DECODE: result.decode_s,
            Phase.IDLE: result.idle_s + startup_s,
        }
        tokens = {Phase.PREFILL: result.n_prefill_tokens, Phase.DECODE: result.n_decode_tokens}
        phases = {}
        for phase, phase_s in seconds.items():
            chip_s = phase_s * self._machine.n_chips
            phases[phase] = PhaseUsage(
                tokens=tokens.get(phase, 0),
                flops=self._flops.get(phase, 0.0),
                bytes=self._bytes.get(phase, 0.0),
                chip_s=chip_s,
                energy=declared_energy(self._machine, chip_s),
            )
        return Usage(job=Job.INFERENCE, origin=Origin.SIMULATED, phases=phases)


def _check_fits(model: ModelSpec, serving: ServingSpec, workload: Workload, machine: MachineSpec) -> None:
    context_len = workload.prompt_tokens + workload.answer_tokens
    if context_len > model.max_seq_len:
        raise SpecError(
            f"prompt_tokens={workload.prompt_tokens} and answer_tokens={workload.answer_tokens}: {context_len} tokens "
            f"of context, and {model.name} has positions for {model.max_seq_len}"
        )
    cache = serving.n_kv_blocks * serving.kv_block_tokens * kv_bytes_per_token(model, serving.dtype)
    needed = weight_bytes(model, serving.dtype) + cache
    if needed > machine.memory_bytes:
        raise SpecError(
            f"model {model.name}: weights and KV cache take {show_bytes(needed)} and {machine.chip.name} has "
            f"{show_bytes(machine.memory_bytes)}; fewer requests at once or a smaller model would fit"
        )
