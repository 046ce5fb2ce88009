"""A realistic document of ``twobills run``, built with the real usages, prices, gaps and life points."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from twobills.ledger.reconcile import reconcile
from twobills.money.bill import Bill, price
from twobills.money.rates import Rates, rented
from twobills.plan.interval import around
from twobills.plan.life import life
from twobills.specs.catalog import chip_price
from twobills.usage import Energy, Job, Origin, Phase, PhaseUsage, Stamp, Usage

WATTS = 4.0
N_REQUESTS = 300


def make_document(*, measured_factor: float = 1.0, rates: Rates | None = None) -> dict[str, Any]:
    """The whole document; every measured chip-second times ``measured_factor``."""
    paid = rates or rented(chip_price("cpu-core"))
    training = (
        _training(Origin.PREDICTED, 118.0, 5.6),
        _training(Origin.MEASURED, 127.4 * measured_factor, 6.1 * measured_factor),
    )
    inference = (
        _inference(Origin.SIMULATED, 3.1, 4.4, 1.0),
        _inference(Origin.MEASURED, 3.9 * measured_factor, 4.1 * measured_factor, 1.2 * measured_factor),
    )
    bills = {"training": _pair(training, paid), "inference": _pair(inference, paid)}
    usd_per_request = bills["inference"]["measured"]["total_usd"] / N_REQUESTS
    return {
        "schema": 1,
        "version": "0.1.0",
        "run_id": "20261123-140000-abc123",
        "date": "2026-11-23T14:00:00+00:00",
        "out": "twobills-out",
        "ledger": "ledger.sqlite",
        "machine": _machine(),
        "data": _data(),
        "plan": _plan(bills),
        "model": _model(),
        "training": _run(),
        "quality": {"heldout_bits_per_byte": 1.58, "gzip_bits_per_byte": 2.05, "xz_bits_per_byte": 1.586},
        "requests": _requests(),
        "bills": bills,
        "usd_per_request": usd_per_request,
        "life": [point.to_json() for point in life(bills["training"]["measured"]["total_usd"], usd_per_request, 2.0)],
        "samples": [
            {
                "prompt": "def read_text(self, encoding=None):\n    ",
                "completion": '"""Read the file and return\n    the text."""\n    return self.f',
            },
            {
                "prompt": "import os\n",
                "completion": "import sys\nimport re\n\n__all__ = ['Error', \"open\"]\n",
            },
        ],
        "provenance": _provenance(),
    }


def _training(origin: Origin, train_s: float, evaluate_s: float) -> Usage:
    return Usage(
        job=Job.TRAINING,
        origin=origin,
        phases={
            Phase.PRETRAIN: _used(1_843_200, 2.74e13, 1.9e12, train_s),
            Phase.EVALUATE: _used(196_510, 9.7e11, 6.1e10, evaluate_s),
        },
    )


def _inference(origin: Origin, prefill_s: float, decode_s: float, idle_s: float) -> Usage:
    return Usage(
        job=Job.INFERENCE,
        origin=origin,
        phases={
            Phase.PREFILL: _used(28_800, 1.4e11, 1.1e10, prefill_s),
            Phase.DECODE: _used(19_200, 9.3e10, 7.9e10, decode_s),
            Phase.IDLE: _used(0, 0, 0, idle_s),
        },
    )


def _used(tokens: float, flops: float, moved: float, wall_s: float) -> PhaseUsage:
    joules = Energy.of(2 * wall_s * WATTS, Stamp.DECLARED)
    return PhaseUsage(tokens=tokens, flops=flops, bytes=moved, chip_s=2 * wall_s, energy=joules)


def _pair(usages: tuple[Usage, Usage], rates: Rates) -> dict[str, Any]:
    planned: Bill = price(usages[0], rates)
    measured = price(usages[1], replace(rates, usd_per_chip_s=rates.usd_per_chip_s * 0.97))
    return {
        "measured": measured.to_json(),
        "predicted": planned.to_json(),
        "predicted_interval": around(planned.total_usd, 0.15).to_json(),
        "gaps": reconcile(planned, measured).to_json(),
    }


def _machine() -> dict[str, Any]:
    return {
        "name": "AMD EPYC",
        "chip": "cpu-core",
        "n_chips": 2,
        "memory_bytes": 2.4e10,
        "matmul_flops_per_s": {"fp32": 1.9e11, "bf16": 6.9e11},
        "memory_bytes_per_s": 5.0e10,
        "call_overhead_s": 3.8e-6,
        "power_counters": [],
        "power_stamp": "declared",
        "power_source": "declared 4 W per chip",
        "watts_per_chip": WATTS,
        "watts_source": "a server CPU's data sheet, divided by its cores",
        "dtype": "bf16",
    }


def _data() -> dict[str, Any]:
    return {
        "name": "Python standard library source",
        "encoding": "utf-8",
        "n_documents": 734,
        "n_heldout_documents": 39,
        "training_bytes": 11_462_865,
        "heldout_bytes": 655_776,
        "n_training_tokens": 3_286_537,
        "n_heldout_tokens": 196_510,
        "split": "by sha256 of the relative path, 1 in 20 held out",
    }


def _plan(bills: dict[str, Any]) -> dict[str, Any]:
    jobs = {
        job: {
            "wall_s": around(bills[job]["predicted"]["total"]["chip_s"] / 2, 0.15).to_json(),
            "total_usd": bills[job]["predicted_interval"],
            "bill": bills[job]["predicted"],
        }
        for job in ("training", "inference")
    }
    sizes = (
        ("d64-l3", 430_000, 9_800_000, 16.2),
        ("d128-l4", 1_340_000, 4_300_000, 14.6),
        ("d192-l4", 2_361_024, 2_400_000, 14.2),
        ("d256-l4", 3_700_000, 1_500_000, 14.4),
    )
    return {
        **jobs,
        "sizes": [
            {"name": n, "n_params": p, "n_tokens": d, "law_loss": loss, "chosen": n == "d192-l4"}
            for n, p, d, loss in sizes
        ],
        "law": {"name": "besiroglu-2024", "extrapolated": True, "source": "arXiv:2404.10102"},
    }


def _model() -> dict[str, Any]:
    digest = "sha256:" + 8 * "9f3c01ab"
    return {
        "name": "d192-l4",
        "n_params": 2_361_024,
        "n_layers": 4,
        "d_model": 192,
        "n_heads": 3,
        "n_kv_heads": 1,
        "d_ff": 512,
        "vocab_size": 4096,
        "digest_before_serving": digest,
        "digest_after_serving": digest,
        "folder": "twobills-out/model",
    }


def _run() -> dict[str, Any]:
    curve = [
        {
            "step": step,
            "n_tokens": 2048 * step,
            "elapsed_s": 0.134 * step,
            "loss": 2.55 + 5.75 * math.exp(-step / 90) + 0.9 * math.exp(-step / 400) + 0.07 * math.sin(1.7 * step),
        }
        for step in range(1, 901, 4)
    ]
    return {
        "n_steps": 900,
        "n_tokens": 1_843_200,
        "epochs": 0.56,
        "wall_s": 121.0,
        "tokens_per_s": 15_200.0,
        "mfu": 0.41,
        "planned_peak_memory_bytes": 1.2e8,
        "peak_memory_bytes": 1.3e8,
        "mfu_convention": "6 x matmul parameters + causal attention, over the best measured product rate",
        "curve": curve,
    }


def _requests() -> dict[str, Any]:
    return {
        "sent": N_REQUESTS,
        "ok": N_REQUESTS,
        "failed": 0,
        "concurrency": 16,
        "prompt_tokens": 28_800,
        "completion_tokens": 19_200,
        "wall_s": 9.1,
        "output_tokens_per_s": 2109.0,
        "ttft_s": {"mean": 0.051, "p50": 0.044, "p90": 0.093, "p99": 0.164},
        "e2e_s": {"mean": 0.47, "p50": 0.46, "p90": 0.58, "p99": 0.66},
    }


def _provenance() -> list[dict[str, Any]]:
    cpu = chip_price("cpu-core")
    rows = (
        ("price of a core-hour", "$0.0513", "assumed", cpu.source, cpu.as_of),
        ("power of a core", "4 W", "declared", "a 500 W server CPU of 128 cores, divided", "2024-10-10"),
        (
            "speed of matrix products",
            "690 GFLOP/s",
            "measured",
            "this machine, before the plan",
            "2026-11-23",
        ),
        ("forecast error", "15 %", "assumed", "until runs on this machine calibrate it", None),
        ("loss law", "besiroglu-2024", "sourced", "arXiv:2404.10102, table 1", "2024-05-01"),
        ("FLOPs and bytes", "from shapes", "counted", "what ran, a multiply-add being 2", None),
    )
    return [dict(zip(("what", "value", "how", "source", "as_of"), row, strict=True)) for row in rows]
