"""A planned training run as plain JSON: base units in the key names, intervals beside the figures.

``assumptions`` lists in words what stands in for something that was not given, measured or read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twobills.counts.flops import MFU_CONVENTION
from twobills.counts.params import count_params
from twobills.plan.chosen_step import ChosenStep
from twobills.plan.evaluate import FRAGMENTED_FRAC, RESERVED_BYTES, Evaluated
from twobills.plan.failures import FULL_PAUSES_S, NO_PAUSE_S
from twobills.plan.interval import Interval
from twobills.plan.training import RunPlan, server_watts
from twobills.specs.calibration import Calibration
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.hardware import ChipSpec, Role, peak_name
from twobills.specs.model import ModelSpec
from twobills.specs.run import JobKind
from twobills.specs.running import Running
from twobills.units import JOULES_PER_KWH, SECONDS_PER_DAY, SECONDS_PER_HOUR, show_bytes, show_frac, show_seconds

HFU_CONVENTION = "executed FLOPs: model FLOPs and what is computed again, attention's backward pass as 2.5 forward ones"
PEAK_CONVENTION = "of the dense 16-bit peak"
_RUNNING_WORDS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "restart_s": ("from a failure to training again", show_seconds),
    "checkpoint_copy_bytes_per_s": ("a checkpoint out of a chip, a second", show_bytes),
    "evaluation_frac": ("evaluation over training time", show_frac),
    "mean_draw_frac": ("mean power over rated power", show_frac),
    "utilization_frac": ("owned hours that are used", show_frac),
}
"""What may be assumed of how machines are run: in words, and how it is shown."""
_FIGURE_WORDS: Mapping[str, str] = {
    "memory_bytes": "memory",
    "memory_bytes_per_s": "memory bandwidth",
    "scaleup_chips": "how many chips the fast links join",
    "scaleup_bytes_per_s": "speed of the fast links",
    "scaleout_bytes_per_s": "network (--network-gbps)",
    **{peak_name(dtype): f"peak in {dtype}" for dtype in DType},
}
"""What a forecast reads of a data sheet, in words."""


def run_plan_to_json(plan: RunPlan) -> dict[str, Any]:
    """The run, its bill and its parallel plan."""
    run, figures = plan.run, plan.figures
    no_power = {} if figures.facility_j else {"reason": f"no power of {plan.cluster.chip.name} is known"}
    return {
        "job": run.job.value,
        "n_tokens": run.n_tokens,
        "seq_len": run.seq_len,
        "batch_size": run.global_batch,
        "batch_size_tokens": run.tokens_per_step,
        "n_steps": run.n_steps,
        "dtype": run.dtype.value,
        "stack": run.stack.value,
        "lora_rank": run.lora_rank,
        "adapted_frac": plan.step.adapted if run.job is JobKind.LORA else None,
        "teacher": _teacher(plan),
        "step_s": figures.step_s.to_json(),
        "tokens_per_s": figures.tokens_per_s.to_json(),
        "mfu": figures.mfu.to_json(),
        "mfu_convention": f"{MFU_CONVENTION}, {PEAK_CONVENTION}",
        "hfu": figures.hfu.to_json(),
        "hfu_convention": f"{HFU_CONVENTION}, {PEAK_CONVENTION}",
        "train_s": figures.train_s.to_json(),
        "wall_s": figures.wall_s.to_json(),
        "wall_days": _scaled(figures.wall_s, SECONDS_PER_DAY),
        "chip_s": figures.chip_s.to_json(),
        "chip_hours": _scaled(figures.chip_s, SECONDS_PER_HOUR),
        "facility_j": figures.facility_j.to_json() if figures.facility_j else None,
        "energy_mwh": _scaled(figures.facility_j, 1e3 * JOULES_PER_KWH) if figures.facility_j else None,
        **no_power,
        "pue": plan.running.pue,
        "server_watts_per_chip": server_watts(plan.cluster, plan.running),
        "total_usd": figures.total_usd.to_json(),
        "phase_usd": {phase.value: usd.to_json() for phase, usd in figures.phase_usd.items()},
        "goodput": {
            **plan.goodput.to_json(),
            "checkpoint_bytes": plan.checkpoint_bytes,
            "pauses_s": plan.pauses_s,
        },
        "parallel": _parallel(plan.step.student, plan.step),
        "memory": memory_to_json(plan),
        "bill": plan.bill.to_json(),
    }


def model_to_json(model: ModelSpec) -> dict[str, Any]:
    """Name and size, and what of the source's model is not counted."""
    params = count_params(model)
    return {
        "name": model.name,
        "n_params": params.total,
        "n_active_params": params.active,
        "n_layers": model.n_layers,
        "left_out": list(model.left_out),
    }


def chip_to_json(cluster: ClusterSpec) -> dict[str, Any]:
    """The chips, what a forecast reads of their row, and which of that was not read in a source."""
    chip = cluster.chip
    return {
        "name": chip.name,
        "n_chips": cluster.n_chips,
        "n_fast": cluster.n_fast,
        "network_bytes_per_s": cluster.scaleout_bytes_per_s or chip.scaleout_bytes_per_s,
        "rates_of_work": "data sheet",
        "source": chip.source,
        "as_of": chip.as_of,
        "verified": chip.verified,
        "unverified": list(chip.unverified),
    }


def memory_to_json(plan: RunPlan) -> dict[str, Any]:
    """Bytes of the fullest chip, part by part, and what is left of it."""
    parts = {f"{name}_bytes": float(column[0]) for name, column in plan.step.student.memory._asdict().items()}
    teacher = plan.step.teacher
    there = plan.cluster.memory_bytes
    return {
        **parts,
        "teacher_bytes": float(teacher.memory.total[0]) if teacher else 0.0,
        "reserved_bytes": RESERVED_BYTES + FRAGMENTED_FRAC * there,
        "spare_bytes": plan.step.spare_bytes,
        "available_bytes": there,
    }


def assumptions(plan: RunPlan, calibration: Calibration) -> list[str]:
    """In words, what of this forecast is assumed."""
    return [
        *_about_speed(plan, calibration),
        *_about_chip(plan),
        *([f"price: {plan.bill.rates.source}"] if plan.bill.rates.assumed else []),
        *(
            f"{words}: {show(getattr(plan.running, name))}"
            for name, (words, show) in _RUNNING_WORDS.items()
            if plan.running.is_assumed(name) and (name != "restart_s" or math.isfinite(plan.running.mtbf_chip_s))
        ),
        *_about_operation(plan),
        *_about_job(plan),
    ]


def about_family(chip: ChipSpec, calibration: Calibration) -> str | None:
    """In words, whose speed stands in for a chip of a family that was not among the rows fitted; None for others."""
    if chip.family in calibration.matmul_frac:
        return None
    return f"speed of {chip.family or 'this kind of chip'}: the mean of the families that were fitted, a wider interval"


def about_pauses(running: Running) -> str:
    """In words, what rollbacks, debugging and waiting take, and of which runs."""
    whole, none = (f"{seconds / SECONDS_PER_DAY:g}" for seconds in (FULL_PAUSES_S, NO_PAUSE_S))
    return (
        f"rollbacks, debugging and waiting: {show_frac(running.pauses_frac)} of the other time in runs of {whole} days "
        f"or more, nothing in runs of up to {none} day"
    )


def about_failures(running: Running) -> str:
    """In words, how often chips fail; or that they do not, and what of the interval that leaves as it is."""
    if math.isinf(running.mtbf_chip_s):
        return (
            "nothing fails: the expected hours are fewer for it, the intervals as wide as they were, since the "
            "published runs behind them did fail"
        )
    return f"a failure of one chip every {show_seconds(running.mtbf_chip_s)}"


def _about_operation(plan: RunPlan) -> Iterator[str]:
    running = plan.running
    if running.is_default("mtbf_chip_s") or math.isinf(running.mtbf_chip_s):
        yield about_failures(running)
    if running.pauses_frac and running.is_default("pauses_frac"):
        yield about_pauses(running)
    if plan.figures.facility_j and running.is_default("pue"):
        yield f"PUE (facility over IT power): {running.pue:g}"


def _about_speed(plan: RunPlan, calibration: Calibration) -> Iterator[str]:
    sigma = float(plan.step.rates.log_sigma)
    yield f"speed: data sheet times fractions fitted to published runs, forecasts miss log-normally, sigma {sigma:g}"
    low, high = show_frac(1 - calibration.run_low), show_frac(calibration.run_high - 1)
    yield f"interval of the run: published runs took from {low} less to {high} more hours than such forecasts"
    if family := about_family(plan.cluster.chip, calibration):
        yield family
    yield f"software: {plan.run.stack}"
    reserved = f"{show_bytes(RESERVED_BYTES)} and {show_frac(FRAGMENTED_FRAC)} of a chip's memory"
    yield f"memory: {reserved} are taken by buffers and fragments"


def _about_chip(plan: RunPlan) -> Iterator[str]:
    cluster, chip = plan.cluster, plan.cluster.chip
    peak = next(peak_name(dtype) for dtype, rate in chip.peak_flops_per_s.items() if rate == cluster.train_peak)
    read = [peak, "memory_bytes", "memory_bytes_per_s"]
    if cluster.n_chips > 1:
        read += ["scaleup_chips", "scaleup_bytes_per_s"]
    if cluster.n_chips > cluster.n_fast and cluster.scaleout_bytes_per_s is None:
        read.append("scaleout_bytes_per_s")
        if chip.scaleout_bytes_per_s is None:
            yield f"network of {chip.name}: not known, taken as fast as its links"
    if chip.role is Role.INFERENCE:
        yield f"{chip.name} can train at all: it is made or sold for inference"
    if not chip.verified:
        yield f"data sheet of {chip.name}: its source was not opened"
    elif doubtful := [name for name in read if name in chip.unverified]:
        words = ", ".join(_FIGURE_WORDS.get(name, name) for name in doubtful)
        yield f"data sheet of {chip.name}: {words} remembered, not read in a source"


def _about_job(plan: RunPlan) -> Iterator[str]:
    if plan.model.left_out:
        yield f"not counted of {plan.model.name}: {', '.join(plan.model.left_out)}"
    if plan.run.job is JobKind.LORA:
        yield "adapters beside every matrix of the layers but routers, their own small products not counted"
    if plan.run.teacher is not None:
        yield "teacher: forward over every token, on the same chips, beside the student in memory"


def _parallel(table: Evaluated, step: ChosenStep) -> dict[str, Any]:
    spec = table.layouts.spec(0)
    names = ("dp", "tp", "pp", "cp", "ep", "shard", "interleave", "micro_batch")
    return {
        **{name: getattr(spec, name) for name in names},
        "zero": spec.zero.value,
        "recompute": spec.recompute.name.lower(),
        "n_micro_batches": float(table.layouts.n_micro[0]),
        "description": spec.describe(),
        "n_plans_compared": step.n_plans,
    }


def _teacher(plan: RunPlan) -> dict[str, Any] | None:
    teacher, table = plan.run.teacher, plan.step.teacher
    if teacher is None or table is None:
        return None
    return {**model_to_json(teacher), "step_s": plan.step.teacher_s, "parallel": table.layouts.spec(0).describe()}


def _scaled(interval: Interval, unit: float) -> dict[str, float]:
    return Interval(*(figure / unit for figure in interval)).to_json()
