"""Serving steps for tests: every column one row, one chip, bf16 and an empty step unless said otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from twobills.counts.serving_step import ServingWork, Situations, serving_step
from twobills.plan.steady import Instance
from twobills.specs import catalog
from twobills.specs.cluster import ClusterSpec
from twobills.specs.model import ModelSpec
from twobills.specs.serving_calibration import ServingCalibration, published_serving_calibration

CALIBRATION = published_serving_calibration()
MODELS = list(catalog.models().values())
DENSE = [model for model in MODELS if model.moe is None and model.latent is None and model.d_embedding is None]
"""Those whose steps the general formulas cover without experts, latent attention or a narrower embedding."""


def clusters(n_chips: int = 1) -> Mapping[str, ClusterSpec]:
    """All chips of the catalogue that a step can be forecast on: memory, bandwidth and a 16-bit peak are known."""
    return {
        name: ClusterSpec(chip=chip, n_chips=n_chips)
        for name, chip in catalog.chips().items()
        if chip.memory_bytes and chip.memory_bytes_per_s and {"bf16", "fp16"} & set(chip.peak_flops_per_s)
    }


CLUSTERS = clusters()


def situation(**columns: float) -> Situations:
    """One step; the given columns replace those of an empty step of one chip."""
    default = {"n_decode": 0.0, "context": 1.0, "n_prompt": 0.0, "prompt_context": 1.0, "weight_bytes": 2.0}
    values = dict.fromkeys(Situations._fields, 1.0) | {"kv_bytes": 2.0} | default | columns
    return Situations(**{name: np.array([float(value)]) for name, value in values.items()})


def decoding(model: ModelSpec, batch: float = 1, context: float = 1000, **columns: float) -> ServingWork:
    """A step in which ``batch`` sequences produce a token each."""
    return serving_step(model, situation(n_decode=batch, context=context, **columns))


def reading(model: ModelSpec, prompt: float, **columns: float) -> ServingWork:
    """A step that reads one prompt."""
    return serving_step(model, situation(n_prompt=prompt, prompt_context=prompt, **columns))


def step_flops(step: ServingWork) -> float:
    """FLOPs of one chip in the step."""
    return sum(float((work.calls * work.flops)[0]) for work in step.work)


def instance(memory_bytes: float = 80e9, **columns: float) -> Instance:
    """One instance; the given columns replace those of one chip that holds bf16."""
    values = dict.fromkeys(Instance._fields, 1.0) | {"weight_bytes": 2.0, "kv_bytes": 2.0} | columns
    return Instance(**{n: np.array([float(v)]) for n, v in (values | {"memory_bytes": memory_bytes}).items()})


def at_data_sheet() -> ServingCalibration:
    """Chips that achieve what their makers print, and engines that cost nothing: bounds, not forecasts."""
    nothing = {"server": 0.0}
    return replace(
        CALIBRATION,
        product_frac={"other": 1.0},
        native_product_frac=1.0,
        attention_frac=1.0,
        bandwidth_frac={"server": 1.0},
        memory_frac={},
        layer_s=nothing,
        prompt_layer_s=0.0,
        prompt_wait={"server": 1.0},
        step_s=nothing,
        sequence_s=nothing,
        link_frac=1.0,
        message_s=0.0,
    )
