"""Chips, clusters and runs for tests of planned training; every figure is stated, none from the catalogue."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from tests.sharded import CALIBRATION, LLAMA
from twobills.money.rates import Rates
from twobills.plan.training import RunPlan, plan_run
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.hardware import ChipSpec
from twobills.specs.model import ModelSpec
from twobills.specs.run import TrainingRun
from twobills.specs.running import Running, default_running

CHIP = ChipSpec(
    name="test-chip",
    vendor="a test",
    source="a test",
    as_of="2026-01-01",
    verified=True,
    peak_flops_per_s={DType.BF16: 1e15, DType.FP8: 2e15},
    family="hopper",
    watts=700.0,
    memory_bytes=80e9,
    memory_bytes_per_s=3e12,
    scaleup_chips=8,
    scaleup_bytes_per_s=4e11,
    scaleout_bytes_per_s=5e10,
)
CLUSTER = ClusterSpec(chip=CHIP, n_chips=64)
RENTED = Rates(usd_per_chip_s=1e-3, usd_per_j=0.0, source="a test", as_of="2026-01-01", assumed=False)
POWERED = replace(RENTED, usd_per_j=1e-8)
RUNNING = default_running()
QUIET = replace(RUNNING, mtbf_chip_s=math.inf, pauses_frac=0.0, evaluation_frac=0.0)
"""Nothing fails, nothing pauses, nothing is evaluated."""


def run_of(**change: Any) -> TrainingRun:
    """A run of 1T tokens in steps of 128 sequences of 4096."""
    return TrainingRun(**{"n_tokens": 1e12, "seq_len": 4096, "global_batch": 128, **change})


def planned(
    run: TrainingRun | None = None,
    *,
    model: ModelSpec = LLAMA,
    cluster: ClusterSpec = CLUSTER,
    rates: Rates = RENTED,
    running: Running = RUNNING,
    **given: Any,
) -> RunPlan:
    """The plan of such a run."""
    return plan_run(model, run or run_of(), cluster, rates, running, CALIBRATION, **given)
