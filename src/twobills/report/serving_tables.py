"""The tables of a planned inference bill, from the document that ``plan inference --json`` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from twobills.report.tables import ABSENT, Document, Table
from twobills.report.training_tables import ASSUMED
from twobills.report.words import PHASE_WORDS, short
from twobills.units import (
    per_s_to_per_hour,
    show_bytes,
    show_count,
    show_energy,
    show_frac,
    show_hours,
    show_seconds,
    show_usd,
    significant,
)

_KINDS = {"input": "1M input", "cached_input": "1M cached", "output": "1M output"}
"""Tokens. Short, as the table has six figures beside it on a screen of 80 columns."""
_MANY_REQUESTS = 1000
_SHOWN_PARTS = 12
_WORTH_SAYING = 0.01
_SEEN = 1e-6
"""Shares below it are rounding."""


def speed_table(document: Document) -> Table:
    """How fast and how much: each figure with its interval."""
    served = document["inference"]
    rows = [
        ("First token, mean", *_interval(served["ttft_s"], show_seconds)),
        ("First token, half of all", *_interval(served["ttft_p50_s"], show_seconds)),
        ("First token, 99 of 100", *_interval(served["ttft_p99_s"], show_seconds)),
        ("Each further token", *_interval(served["tpot_s"], show_seconds)),
        ("Whole answer", *_interval(served["e2e_s"], show_seconds)),
        ("Tokens written a second", *_interval(served["output_tokens_per_s"], show_count)),
        ("  by each chip", *_interval(served["output_tokens_per_s_per_chip"], show_count)),
        ("  to each user", *_interval(served["output_tokens_per_s_per_user"], show_count)),
        (f"Power, cooling included {ASSUMED}", *_interval(served["watts"], _show_watts)),
        (f"Energy of a token {ASSUMED}", *_interval(served["j_per_token"], show_energy)),
    ]
    return Table("Speed and power", ("What", "5 %", "Expected", "95 %"), rows)


def price_table(document: Document) -> Table:
    """Dollars per million tokens of each kind and per request, of chip-seconds used and of those reserved."""
    served = document["inference"]
    rows = [
        (words, *_both(served["usd_per_mtok"][kind], served["usd_per_mtok_reserved"][kind]))
        for kind, words in _KINDS.items()
    ]
    request, reserved = (
        {bound: _MANY_REQUESTS * usd for bound, usd in served[name].items()}
        for name in ("usd_per_request", "usd_per_request_reserved")
    )
    rows.append(("1k requests", *_both(request, reserved)))
    rows.append(("One day", "–", "–", "–", *_interval(served["usd_per_day"], show_usd)))
    rates = served["bill"]["rates"]
    hour = show_usd(per_s_to_per_hour(rates["usd_per_chip_s"])) + (f" {ASSUMED}" if rates["assumed"] else "")
    columns = ("What", "5 %", "Used", "95 %", "5 %", "Reserved", "95 %")
    return Table(f"What it costs, at {hour} a chip-hour{' and power' if rates['usd_per_j'] else ''}", columns, rows)


def day_table(document: Document) -> Table:
    """One day's bill, phase by phase."""
    bill = document["inference"]["bill"]
    names = {phase.value: words for phase, words in PHASE_WORDS.items()}
    phases, whole = bill["phases"].items(), bill["total"]["chip_s"]
    rows = [_phase_row(names[name], used) for name, used in phases if used["chip_s"] > _SEEN * whole]
    rows.append(_phase_row("total", {**bill["total"], "usd": bill["total_usd"]}))
    columns = ("Phase", "Tokens", "FLOPs", "Chip-hours", "Energy", "Cost")
    return Table("One day's bill, predicted", columns, rows, has_total=True)


def plan_and_memory_table(document: Document) -> Table:
    """How instances are spread, how full they are, what holds them back."""
    return Table("Plan and memory", ("What", "Value"), list(_plan_rows(document)), n_text_columns=2)


def step_table(document: Document) -> Table:
    """One step taken apart, the longest parts first."""
    parts = document["step_parts"]
    rows = [(p["name"], show_seconds(p["step_s"]), show_frac(p["share_frac"]), p["bound_by"]) for p in parts]
    if rest := parts[_SHOWN_PARTS:]:
        seconds, share = (sum(part[key] for part in rest) for key in ("step_s", "share_frac"))
        rows = [*rows[:_SHOWN_PARTS], (f"{len(rest)} more", show_seconds(seconds), show_frac(share), "–")]
    rows.append(("one step", show_seconds(sum(part["step_s"] for part in parts)), show_frac(1.0), "–"))
    return Table("Where a step's time goes", ("Part", "Takes", "Share", "Bound by"), rows, has_total=True)


def _plan_rows(document: Document) -> Iterator[tuple[str, str]]:
    served, memory = document["inference"], document["inference"]["memory"]
    for pool in served["pools"]:
        chips = pool["n_instances"] * pool["chips_per_instance"]
        yield (
            f"Instances: {pool['job']}" if len(served["pools"]) > 1 else "Instances",
            f"{pool['n_instances']:,} x {pool['description']} = {chips:,} chip{'s' * (chips > 1)}, "
            f"{show_frac(pool['utilization'])} busy",
        )
    yield "Load they can take", f"{short(significant(served['capacity_requests_per_s']))} requests a second"
    yield "Formats and engine", f"weights {served['weights']}, cache {served['kv']}, {served['engine']} {ASSUMED}"
    yield "Weights on a chip", show_bytes(memory["weights_bytes"])
    yield "Room for cache on a chip", f"{show_bytes(memory['cache_room_bytes'])}"
    running = f"{short(significant(served['n_running']))} of at most {served['most_running']:,.0f}"
    yield "Sequences at once", f"{running} in an instance"
    bound = (f"{name} {show_frac(share)}" for name, share in served["bound_by"].items() if share >= _WORTH_SAYING)
    yield "A step waits for", ", ".join(bound)
    yield "Wait before a prompt is read", show_seconds(served["queue_s"])
    if transfer := served["transfer"]:
        yield (
            "From pool to pool",
            f"{show_bytes(transfer['cache_bytes'])} in {show_seconds(transfer['transfer_s'])}, after "
            f"{show_seconds(transfer['read_s'])} of reading",
        )
    if guesses := served["speculation"]:
        yield (
            "Guessing ahead",
            f"{significant(guesses['tokens_per_step'])} tokens a step, {significant(guesses['speedup'])} times as fast",
        )


def _phase_row(name: str, used: Document) -> tuple[str, ...]:
    energy = used["energy"]
    return (
        name,
        short(show_count(used["tokens"])) if used["tokens"] else "–",
        f"{used['flops']:.2e}" if used["flops"] else "–",
        show_hours(used["chip_s"]),
        show_energy(energy["total_j"]) if energy["stamp"] else ABSENT,
        show_usd(used["usd"]),
    )


def _both(used: Document, reserved: Document) -> Sequence[str]:
    return (*_interval(used, show_usd), *_interval(reserved, show_usd))


def _interval(figure: Document | None, show: Callable[[float], str]) -> Sequence[str]:
    if figure is None:
        return ("–", ABSENT, "–")
    return (show(figure["p5"]), show(figure["value"]), show(figure["p95"]))


def _show_watts(watts: float) -> str:
    return f"{show_count(watts)}W"
