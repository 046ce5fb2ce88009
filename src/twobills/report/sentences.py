"""One plain sentence or two above each table and figure, computed from its numbers, for a newcomer.

Which bill this is, what dominates it, what would change it most. The page and the terminal print the same
ones. Each function takes a part of a command's JSON document and always returns words: where a figure does
not exist, it says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from twobills.report.held_out import held_out
from twobills.report.words import PHASE_WORDS, show_days, show_demand, signed_usd
from twobills.units import (
    per_s_to_per_hour,
    show_bytes,
    show_count,
    show_flops_per_s,
    show_frac,
    show_seconds,
    show_usd,
    significant,
)
from twobills.usage import Job, Phase

Document = Mapping[str, Any]
_WHICH: Mapping[Job, str] = {
    Job.TRAINING: "This is the training bill, paid once to make the model",
    Job.INFERENCE: "This is the inference bill, paid again for every answer",
}
_HALVED: Mapping[Phase, str] = {
    Phase.PRETRAIN: "learning from half as much data",
    Phase.FINETUNE: "fine-tuning on half as much data",
    Phase.DISTILL: "half as many lessons from the teacher",
    Phase.EVALUATE: "checking on half as much data",
    Phase.LOST: "losing half as much work",
    Phase.PREFILL: "prompts half as long",
    Phase.DECODE: "answers half as long",
    Phase.DRAFT: "guessing ahead half as much",
    Phase.IDLE: "waiting half as long for requests",
}
_CAUSES: Mapping[str, tuple[str, str]] = {
    "work": ("more work was done than planned", "less work was done than planned"),
    "speed": ("the work took longer than planned", "the work went faster than planned"),
    "price": ("each second cost more than planned", "each second cost less than planned"),
}
_WHAT_IS_COUNTED: Mapping[Job, str] = {
    Job.TRAINING: "Chip time is seconds times chips; learning includes turning the data into tokens.",
    Job.INFERENCE: "Chip time is seconds times chips; an answer's first token is part of reading its prompt.",
}
_SAME = 0.005
"""Differences below this fraction of the plan are called none."""


def bill_sentence(bill: Document) -> str:
    """Which bill this is, what it comes to, its largest phase, and what halving that phase would save."""
    which = _WHICH[Job(bill["job"])]
    came_to = "it came to" if bill["origin"] == "measured" else "it should come to"
    total = bill["total_usd"]
    if not total:
        return f"{which}: {came_to} nothing."
    name, line = max(bill["phases"].items(), key=lambda item: float(item[1]["usd"]))
    phase, usd = Phase(name), line["usd"]
    return (
        f"{which}: {came_to} {show_usd(total)}, {show_frac(usd / total)} of it for {PHASE_WORDS[phase]} "
        f"({name}). What would change it most is {_HALVED[phase]}: at most {show_usd(usd / 2)} less."
    )


def bill_lines_sentence(bill: Document) -> str:
    """What a bill's lines are made of, and whether energy is paid by itself."""
    rates = bill["rates"]
    assumed = " (assumed)" if rates["assumed"] else ""
    words = (
        f"The {bill['job']} bill, line by line: each phase pays for the time it held the chips, "
        f"at {show_usd(per_s_to_per_hour(rates['usd_per_chip_s']))} an hour{assumed} for each"
    )
    energy = ", and for its energy" if rates["usd_per_j"] else "; energy is shown and already in that price"
    return f"{words}{energy}. {_WHAT_IS_COUNTED[Job(bill['job'])]}"


def gap_sentence(job: str, gaps: Document, interval: Document | None = None) -> str:
    """How far the bill missed its plan, the largest cause, and whether the plan's interval held."""
    planned, measured = gaps["planned_usd"], gaps["measured_usd"]
    difference = measured - planned
    causes = {cause: gaps[f"{cause}_usd"] for cause in _CAUSES}
    cause = max(causes, key=lambda name: abs(causes[name]))
    if abs(difference) <= _SAME * planned:
        opening = f"The {job} bill came out as planned, {show_usd(measured)}"
    else:
        size = show_usd(abs(difference)) + (f" ({show_frac(abs(difference) / planned)})" if planned else "")
        side = "above" if difference > 0 else "below"
        opening = f"The {job} bill came out {size} {side} its plan of {show_usd(planned)}"
    if interval:
        inside = interval["p5"] <= measured <= interval["p95"]
        opening += f", {'inside' if inside else 'outside'} the interval that was forecast"
    if abs(causes[cause]) <= _SAME * planned:
        return f"{opening}."
    why = _CAUSES[cause][causes[cause] < 0]
    return f"{opening}. The largest cause is the {cause} gap of {signed_usd(causes[cause])}: {why}."


def gap_lines_sentence() -> str:
    """What the three gaps mean."""
    return (
        "Every dollar between plan and meter has a cause: the work gap is doing more or less than planned, "
        "the speed gap is taking longer or shorter for it, the price gap is paying more or less for the time. They "
        "add up exactly."
    )


def life_sentence(points: Sequence[Document]) -> str:
    """When inference overtakes training, and what moves that day."""
    crossing = [point for point in points if point["crossover_days"] is not None]
    if not crossing:
        return "An answer costs nothing here, so inference never overtakes training."
    if not any(point["crossover_days"] for point in crossing):
        return "Training cost nothing here, so inference is the larger bill from the first answer."
    first, last = crossing[0], crossing[-1]
    opening = (
        "Training is paid once, inference for every answer: "
        f"at {show_demand(first['requests_per_day'])} requests a day "
        f"the second bill overtakes the first after {show_days(first['crossover_days'])}"
    )
    if last is first:
        return f"{opening}."
    return (
        f"{opening}, at {show_demand(last['requests_per_day'])} after {show_days(last['crossover_days'])}. "
        "Demand moves that day most: ten times the requests, a tenth of the time. "
        "That is of the time used; a machine that is always on, however few requests come, "
        f"overtakes training after {show_days(first['reserved_crossover_days'])}."
    )


def plan_sentence(plan: Document, *, rates_of_work: str = "measured") -> str:
    """What was forecast before the first step, on a machine that was measured or read from its data sheet."""
    parts = [
        f"{job.value} {show_seconds(part['wall_s']['value'])} and {show_usd(part['total_usd']['value'])} "
        f"(likely {show_usd(part['total_usd']['p5'])} to {show_usd(part['total_usd']['p95'])})"
        for job in Job
        if (part := plan.get(job.value)) and part.get("wall_s") and part.get("total_usd")
    ]
    if not parts:
        return "There is no plan."
    basis = "measuring this machine" if rates_of_work == "measured" else f"the chip's {rates_of_work}"
    made = f"Before the first step, from {basis} and counting the work, the forecast is"
    return f"{made}: {'; '.join(parts)}.{_calibrated(plan)}"


def _calibrated(plan: Document) -> str:
    """On how many runs of this machine the plan rests, if it does."""
    learned = {job.value: (plan.get(job.value) or {}).get("calibration") for job in Job}
    counts = {job: calibration["n_runs"] for job, calibration in learned.items() if calibration}
    if not counts:
        return ""
    if len(set(counts.values())) == 1 and len(counts) == len(Job):
        return f" Both are calibrated on {counts[Job.TRAINING.value]} runs of this machine."
    words = " and ".join(f"{job} on {n}" for job, n in counts.items())
    return f" Calibrated on runs of this machine: {words}."


def sizes_sentence(sizes: Sequence[Document], law: Document | None) -> str:
    """Which size was taken and why."""
    chosen = next((size for size in sizes if size["chosen"]), None)
    if chosen is None:
        return "The size was given, not chosen."
    words = (
        "A bigger model learns more from each token but sees fewer of them in the time; "
        f"of {len(sizes)} sizes the law expects most of {chosen['name']}, "
        f"with {show_count(chosen['n_params'])} parameters"
    )
    if law and law["extrapolated"]:
        fitted = f"The law ({law['name']}) was fitted on far larger models, so only its order of sizes is used"
        return f"{words}. {fitted}."
    return f"{words}."


def loss_sentence(curve: Sequence[Document]) -> str:
    """How far the training loss fell."""
    if len(curve) < 2:
        return "There are too few steps for a loss curve."
    first, last = curve[0]["loss"], curve[-1]["loss"]
    if first is None or last is None or not (math.isfinite(first) and math.isfinite(last)):
        return "The training loss is not a number any more: the run came apart."
    fell = "fell" if last < first else "did not fall: it went"
    return (
        f"While the model read {show_count(curve[-1]['n_tokens'])} tokens, "
        f"its surprise at the next one {fell} from {first:.2f} to {last:.2f} nats; "
        "more data or more time would change it most."
    )


def model_sentence(document: Document) -> str:
    """What was trained on what, and whether it stayed the same while it served."""
    model, data = document["model"], document["data"]
    words = (
        f"The model has {show_count(model['n_params'])} parameters and had this to learn from: "
        f"{show_bytes(data['training_bytes'])} of {data['name']}"
    )
    before, after = model["digest_before_serving"], model["digest_after_serving"]
    if before is None or after is None:
        return f"{words}; its weights were not compared before and after serving."
    frozen = "did not change" if before == after else "CHANGED, so these bills do not belong to one model,"
    return f"{words}; its weights {frozen} while it served."


def quality_sentence(quality: Document) -> str:
    """What the model needs for a byte or a pixel it never saw, beside gzip; and how well it tells classes apart."""
    found = held_out(quality)
    ours, gzip = found.bits, next(other.bits for other in found.others if other.name.startswith("gzip"))
    if ours is None:
        return f"Quality on held-out {found.noun} was not measured."
    opening = f"On {found.noun} it never saw, the model needs {significant(ours)} bits for each {found.unit}"
    if not gzip:
        words = f"{opening}."
    elif ours == gzip:
        words = f"{opening}, as many as gzip."
    else:
        side = "fewer" if ours < gzip else "more"
        words = f"{opening}, {show_frac(abs(1 - ours / gzip))} {side} than gzip's {significant(gzip)}."
    return words + _classified(quality)


def _classified(quality: Document) -> str:
    """How a model of images tells classes apart, if that was asked of it."""
    found = quality.get("classification")
    if not found:
        return ""
    if not found["n_images"]:
        return f" It has no classes to tell apart: {found['reason']}."
    return (
        f" Asked under which class an image is likeliest, it is right for {show_frac(quality['heldout_accuracy'])} of "
        f"{found['n_images']:,} images; always naming the commonest of {found['n_classes']} classes would be right for "
        f"{show_frac(found['commonest_frac'])}."
    )


def pictures_sentence(pictures: Document) -> str:
    """What the picture shows, and how it was asked for."""
    kept = f", {pictures['temperature']:g} being the temperature" if pictures["temperature"] != 1 else ""
    words = (
        f"The frozen model was asked for {pictures['asked']:,} images over HTTP, by class alone{kept}; "
        f"{pictures['whole']:,} of the answers were whole images"
    )
    return f"{words}. Those shown are the first of each class, not chosen."


def requests_sentence(requests: Document, usd_per_request: float | None) -> str:
    """How many requests were answered, how fast, and what one costs."""
    words = f"{requests['ok']:,} of {requests['sent']:,} requests were answered"
    if requests["failed"]:
        words += f" and {requests['failed']:,} failed"
    if requests.get("ttft_s"):
        words += f"; half of them had their first token within {show_seconds(requests['ttft_s']['p50'])}"
    if usd_per_request is None:
        return f"{words}. What one costs is not known."
    return f"{words}. With the server kept busy, a million of them would cost {show_usd(1e6 * usd_per_request)}."


def machine_sentence(machine: Document) -> str:
    """What this machine can do, measured before anything was planned on it."""
    rates = machine["matmul_flops_per_s"]
    best = max(rates, key=lambda dtype: float(rates[dtype]))
    return (
        f"Measured before planning: {machine['n_chips']} x {machine['chip']} multiply matrices at "
        f"{show_flops_per_s(rates[best])} in {best} "
        f"and read memory at {show_bytes(machine['memory_bytes_per_s'])}/s."
    )


def samples_sentence(samples: Sequence[Document]) -> str:
    """What the sample completions are."""
    if not samples:
        return "No samples were taken."
    return "What the frozen model wrote after a prompt from text it never saw; the prompt is the pale part."


def provenance_sentence(facts: Sequence[Document]) -> str:
    """How many of the inputs nobody measured."""
    guessed = [fact["what"] for fact in facts if fact["how"] in ("assumed", "declared", "estimated")]
    if not guessed:
        return "Every number here was measured, counted or looked up."
    return (
        f"{len(guessed)} of {len(facts)} inputs are assumed, declared or estimated rather than measured or "
        f"looked up: {', '.join(guessed)}. The dollars are only as good as these."
    )
