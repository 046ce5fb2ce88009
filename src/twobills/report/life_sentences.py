"""Plain sentences about both bills over a life: which is larger, when they cross, what it hangs on, what to save."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twobills.report.words import short, show_days, show_demand
from twobills.units import DAYS_PER_YEAR, show_count, show_frac, show_usd

Document = Mapping[str, Any]


def life_sentence(document: Document) -> str:
    """Both bills, and the day on which the second overtakes the first."""
    life, inference = document["life"], document["inference"]
    training, a_day = life["training_usd"], inference["usd_per_day"]
    machines = f"{machines_words(document)}"
    paid = "Training, paid once," if life["n_versions"] == 1 else f"Training, paid {life['n_versions']} times,"
    return (
        f"{paid} should cost {show_usd(training['value'])} ({_likely(training)}); inference "
        f"{show_usd(a_day['value'])} on the first day ({_likely(a_day)}), on {machines}. {_crossing(life)} "
        f"An answer costs {show_usd(life['usd_per_answer']['value'])}, its share of training included."
    )


def machines_words(document: Document) -> str:
    """The machines that serve: ``8 machines of 8 x h200-sxm``."""
    inference = document["inference"]
    n, size = round(inference["n_machines"]["value"]), inference["chips_per_machine"]
    one = f"{size:,} x {inference['chip']}" if size > 1 else f"one {inference['chip']}"
    return f"{n:,} machines of {one}" if n > 1 else f"one machine of {one}"


def a_day(document: Document) -> str:
    """What the inference bill of a plan is of."""
    if "n_requests" in document["inference"]:
        return f"That is for {document['inference']['n_requests']:,} requests."
    return f"That is for a day of one of {machines_words(document)}."


def _crossing(life: Document) -> str:
    span = show_days(life["years"] * DAYS_PER_YEAR)
    share = show_frac(life["inference_share"]["value"])
    whole = f"over {span} in service, inference is {share} of both bills."
    days = life["crossover_days"]["value"]
    if not life["total_usd"]["value"]:
        return "Nothing is paid for, so neither bill is the larger."
    if days is None:
        return f"{life['reason'].capitalize()}; {whole}"
    if not days:
        return f"Training costs nothing, so inference is the larger bill from the first answer; {whole}"
    if not life["crosses_within_life"]:
        return f"Inference would overtake training after {show_days(days)}, were it in service so long; {whole}"
    on = f", on {life['crossover_date']} if service starts today" if days >= 1 else ""
    return f"Inference overtakes training after {show_days(days)}{on}; {whole}"


def _likely(interval: Document) -> str:
    if interval["p95"] is None:
        return f"likely {show_usd(interval['p5'])} or more"
    return f"likely {show_usd(interval['p5'])} to {show_usd(interval['p95'])}"


def assumptions_sentence(document: Document) -> str:
    """The three assumptions that move both bills most, and how each is set."""
    top = document["life"]["top_assumptions"]
    if not top:
        return "Nothing that was tried moves the bills."
    parts = [
        f"{each['name']} ({each['low']['label']} to {each['high']['label']}: {show_usd(each['swing_usd'])} apart; "
        f"to change it: {each['change']})"
        for each in top
    ]
    return f"What moves both bills most: {'; '.join(parts)}."


def shave_sentence(document: Document) -> str:
    """What a little off each answer is worth, and so what may be spent to get it."""
    shave = document["life"]["shave"]
    year, life = shave["usd_per_year"], shave["usd_over_life"]["value"]
    words = (
        f"{short(show_frac(shave['frac']))} off the cost of each answer is worth {show_usd(year['value'])} a year "
        f"({_likely(year)}): up to {show_usd(life)} may be spent once to get it"
    )
    if not shave["training_frac"]:
        return f"{words}."
    return f"{words}, {show_frac(shave['training_frac'])} of what training costs."


def split_sentence(document: Document) -> str:
    """Who gets most of both bills."""
    split = document["life"]["split"]
    if split is None:
        return "Who gets each dollar cannot be told: what owning these chips costs is not known."
    largest = max(split["parts"], key=lambda part: float(part["usd"]))
    return (
        f"Of both bills together, the largest part ({show_frac(largest['share_frac'] or 0.0)}) is for: "
        f"{largest['payee']}. All but the totals are estimates."
    )


def traffic_sentence(document: Document) -> str:
    """What the same machines would cost at other, constant traffic."""
    n = document["life"]["n_requests"]["value"]
    points = document["life"]["demands"]
    first, last = points[0], points[-1]
    return (
        f"{short(show_count(n))} answers over the life. At other, constant traffic: "
        f"{show_demand(first['requests_per_day'])} requests a day keep "
        f"{_machines(first)} on, {show_demand(last['requests_per_day'])} keep {_machines(last)}."
    )


def _machines(point: Document) -> str:
    n = point["n_machines"]
    return "one machine" if n == 1 else f"{n or 0:,} machines"


def diff_sentence(one: Document, other: Document, names: tuple[str, str]) -> str:
    """By how much two plans' bills differ."""
    ours, theirs = (each["life"]["total_usd"]["value"] for each in (one, other))
    if ours == theirs:
        return f"Both bills over the life: {show_usd(ours)} by either plan."
    side = "more" if theirs > ours else "less"
    by = f" ({show_frac(abs(theirs / ours - 1))})" if ours else ""
    return (
        f"Both bills over the life: {show_usd(ours)} by {names[0]}, {show_usd(theirs)} by {names[1]}, "
        f"{show_usd(abs(theirs - ours))} {side}{by}."
    )
