"""Served loads for tests of the inference bill; chips are stated in ``tests.runs``, none from the catalogue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.runs import CHIP, RENTED, RUNNING
from tests.sharded import LLAMA
from twobills.money.rates import Rates
from twobills.plan.disaggregated import DisaggregatedPlan, plan_disaggregated
from twobills.plan.serving import ServingPlan, plan_serving
from twobills.specs.cluster import ClusterSpec
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec
from twobills.specs.running import Running
from twobills.specs.serving_calibration import published_serving_calibration

EIGHT = ClusterSpec(chip=CHIP, n_chips=8)
ONE = ClusterSpec(chip=CHIP, n_chips=1)
BIG = replace(LLAMA, name="big", n_layers=64, d_model=8192, n_heads=64, d_head=128, d_ff=28672, max_seq_len=131072)
LONG = replace(LLAMA, name="long", max_seq_len=131072)
CALIBRATION = published_serving_calibration()


def load_of(**change: Any) -> Load:
    """Prompts of 1000 and answers of 300 tokens."""
    return Load(**{"prompt_tokens": 1000, "answer_tokens": 300, **change})


def served(
    load: Load | None = None,
    *,
    model: ModelSpec = LONG,
    cluster: ClusterSpec = EIGHT,
    rates: Rates = RENTED,
    running: Running = RUNNING,
    **given: Any,
) -> ServingPlan:
    """The plan of such a load."""
    return plan_serving(model, load or load_of(), cluster, rates, running, CALIBRATION, **given)


def in_two_pools(load: Load | None = None, *, cluster: ClusterSpec = EIGHT, **given: Any) -> DisaggregatedPlan:
    """The same by two pools."""
    model = given.pop("model", LONG)
    return plan_disaggregated(model, load or load_of(), cluster, RENTED, RUNNING, CALIBRATION, **given)
