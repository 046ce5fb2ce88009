"""The tables of both bills over a life, from the document that ``twobills plan --json`` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twobills.report.tables import Table
from twobills.report.words import show_days
from twobills.units import show_frac, show_seconds, show_usd

Document = Mapping[str, Any]
NEVER = "never"
_TOKENS = {"input": "input", "cached_input": "cached input", "output": "output"}


def both_table(document: Document) -> Table:
    """Both bills, what they come to together and when they cross, each figure with its interval."""
    return Table("Both bills", ("What", "5 %", "Expected", "95 %"), list(_both_rows(document)))


def serving_table(document: Document) -> Table:
    """What a token costs, and how the machines that serve are planned."""
    return Table("Serving", ("What", "5 %", "Expected", "95 %"), list(_serving_rows(document)))


def tornado_table(document: Document) -> Table:
    """Every assumption low and high, what both bills then come to, when they cross, and how to set it."""
    rows = [
        (
            swing["name"],
            swing["low"]["label"],
            swing["high"]["label"],
            show_usd(swing["low"]["total_usd"]),
            show_usd(swing["high"]["total_usd"]),
            _days(swing["low"]["crossover_days"]),
            _days(swing["high"]["crossover_days"]),
        )
        for swing in document["life"]["tornado"]
    ]
    columns = ("Assumption", "From", "To", "Both bills", "to", "They cross after", "or after")
    return Table("What the bills hang on, the widest first", columns, rows, n_text_columns=3)


def split_table(document: Document) -> Table:
    """Who gets each dollar of each bill."""
    split = document["life"]["split"]
    rows = [
        (
            part["payee"],
            show_usd(part["training"]),
            show_usd(part["inference"]),
            show_usd(part["usd"]),
            "–" if part["share_frac"] is None else show_frac(part["share_frac"]),
        )
        for part in sorted(split["parts"], key=lambda part: -part["usd"])
    ]
    return Table("Where the dollar goes ~", ("To", "Training", "Inference", "Both", "Share"), rows)


def diff_table(one: Document, other: Document, names: tuple[str, str]) -> Table:
    """What was asked differently and what that moves."""
    rows = [
        (key, _told(one["plan"].get(key)), _told(other["plan"].get(key)))
        for key in dict.fromkeys((*one["plan"], *other["plan"]))
        if one["plan"].get(key) != other["plan"].get(key)
    ]
    ours, theirs = ({row[0]: row[2] for row in _both_rows(each)} for each in (one, other))
    rows += [(name, figure, theirs.get(name, "–")) for name, figure in ours.items() if figure != theirs.get(name)]
    return Table("Two plans", ("What", *names), rows, n_text_columns=1)


def _both_rows(document: Document) -> Iterator[tuple[str, ...]]:
    life, inference = document["life"], document["inference"]
    yield ("Training", *_interval(life["training_usd"], show_usd))
    yield ("Inference, the first day", *_interval(inference["usd_per_day"], show_usd))
    yield ("Inference over the life", *_interval(life["inference_usd"], show_usd))
    yield ("Both", *_interval(life["total_usd"], show_usd))
    yield ("Inference's share", *_interval(life["inference_share"], show_frac))
    yield ("Inference overtakes after", *_interval(life["crossover_days"], show_days))
    yield ("An answer, all in", *_interval(life["usd_per_answer"], show_usd))


def _serving_rows(document: Document) -> Iterator[tuple[str, ...]]:
    inference = document["inference"]
    yield ("Machines, the first day", *_interval(inference["n_machines"], _whole))
    if inference["most_machines"]["value"] != inference["n_machines"]["value"]:
        yield ("Machines, at most", *_interval(inference["most_machines"], _whole))
    for key, note in (("usd_per_mtok_reserved", ""), ("usd_per_mtok_when_full", ", always full")):
        for kind, words in _TOKENS.items():
            if inference[key][kind] is not None:
                yield (f"A million tokens of {words}{note}", *_interval(inference[key][kind], show_usd))
    for key, words in (("ttft_s", "First token after"), ("ttft_p99_s", "99 % within"), ("tpot_s", "Each further one")):
        if inference.get(key) and "value" in inference[key]:
            yield (words, *_interval(inference[key], show_seconds))


def _interval(figure: Document, show: Callable[[float], str]) -> tuple[str, str, str]:
    """A side that does not exist is one that never comes."""
    low, value, high = (NEVER if figure[end] is None else show(figure[end]) for end in ("p5", "value", "p95"))
    return (low, value, high)


def _days(days: float | None) -> str:
    return NEVER if days is None else show_days(days)


def _told(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _whole(n: float) -> str:
    return f"{n:,.0f}"
