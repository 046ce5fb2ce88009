"""The tables of a planned training run, from the document that ``plan training --json`` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from twobills.report.tables import ABSENT, Document, Table
from twobills.report.words import short
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

ASSUMED = "~"
_MEMORY = {
    "weights_bytes": "Weights",
    "gradients_bytes": "Gradients",
    "optimiser_bytes": "Optimiser",
    "activations_bytes": "Activations",
    "logits_bytes": "Logits",
    "teacher_bytes": "Teacher",
    "reserved_bytes": f"Buffers and fragments {ASSUMED}",
}
_SHOWN_PARTS = 12


def run_table(document: Document) -> Table:
    """How long, how fast, how much: each figure with its interval."""
    run = document["training"]
    rows = [
        ("Cost", *_interval(run["total_usd"], show_usd)),
        ("Wall time", *_interval(run["wall_s"], show_seconds)),
        ("Chip-hours", *_interval(run["chip_s"], show_hours)),
        (f"Energy, cooling included {ASSUMED}", *_interval(run["facility_j"], show_energy)),
        ("Steps alone", *_interval(run["train_s"], show_seconds)),
        ("One step", *_interval(run["step_s"], show_seconds)),
        ("Tokens a second", *_interval(run["tokens_per_s"], show_count)),
        ("MFU", *_interval(run["mfu"], show_frac)),
        ("HFU", *_interval(run["hfu"], show_frac)),
    ]
    return Table("The run", ("What", "5 %", "Expected", "95 %"), rows)


def run_bill_table(document: Document) -> Table:
    """The bill phase by phase, the cost of each with its interval."""
    run = document["training"]
    bill = run["bill"]
    rows = [_bill_row(name, used, run["phase_usd"][name]) for name, used in bill["phases"].items()]
    rows.append(_bill_row("total", {**bill["total"], "usd": bill["total_usd"]}, run["total_usd"]))
    rates = bill["rates"]
    hour = (
        f"{show_usd(per_s_to_per_hour(rates['usd_per_chip_s']))} a chip-hour{' ' + ASSUMED if rates['assumed'] else ''}"
    )
    power = " and power" if rates["usd_per_j"] else ""
    columns = ("Phase", "Tokens", "FLOPs", "Chip-hours", "Energy", "5 %", "Cost", "95 %")
    return Table(f"The training bill, predicted, at {hour}{power}", columns, rows, has_total=True)


def split_table(document: Document) -> Table:
    """Who gets each dollar."""
    split = document["training"]["split"]
    total = split["total_usd"]

    def row(payee: str, usd: float) -> tuple[str, ...]:
        return (payee, show_usd(usd), show_frac(usd / total) if total else "–")

    rows = []
    for part in split["parts"]:
        rows.append(row(part["payee"], part["usd"]))
        if part["payee"] == "chip maker" and split["chip_margin_usd"] is not None:
            rows.append(row("  of it beyond parts", split["chip_margin_usd"]))
    return Table(f"Where the dollar goes ({split['tenure']}) {ASSUMED}", ("To", "Dollars", "Share"), rows)


def plan_and_memory_table(document: Document) -> Table:
    """How the step is spread over the chips, what a chip holds and what failures cost."""
    return Table("Plan, memory, failures", ("What", "Value"), list(_plan_rows(document)), n_text_columns=2)


def step_table(document: Document) -> Table:
    """One step taken apart, the longest parts first."""
    parts = document["step_parts"]
    rows = [_part_row(part) for part in parts[:_SHOWN_PARTS]]
    if rest := parts[_SHOWN_PARTS:]:
        seconds, share = (sum(part[key] for part in rest) for key in ("step_s", "share_frac"))
        rows.append((f"{len(rest)} more", show_seconds(seconds), show_frac(share), "–", "–"))
    total = (sum(part[key] for part in parts) for key in ("step_s", "share_frac"))
    seconds, share = (round(sum_, 12) for sum_ in total)
    rows.append(("one step", show_seconds(seconds), show_frac(share), "–", "–"))
    columns = ("Part", "Adds", "Share", "Bound by", "Runs, hidden or not")
    return Table("Where a step's time goes", columns, rows, has_total=True)


def _plan_rows(document: Document) -> Iterator[tuple[str, str]]:
    run, chip = document["training"], document["chip"]
    parallel, memory, failures = run["parallel"], run["memory"], run["goodput"]
    yield "Parallel plan", f"{parallel['description']} (of {parallel['n_plans_compared']:,} compared)"
    if run["teacher"]:
        yield "Teacher", f"{run['teacher']['name']}: {run['teacher']['parallel']}"
    batch = f"{run['batch_size']:,} sequences of {run['seq_len']:,} = {show_count(run['batch_size_tokens'])} tokens"
    yield "Batch", f"{batch}, {show_count(run['n_steps'])} steps"
    if run["adapted_frac"] is not None:
        yield "Adapters", f"rank {run['lora_rank']}, {show_frac(run['adapted_frac'])} of the parameters"
    yield "Format and software", f"{run['dtype']}, {run['stack']} {ASSUMED}"
    if chip["network_bytes_per_s"]:
        yield "Network of a chip", f"{show_bytes(chip['network_bytes_per_s'])}/s, {chip['n_fast']} share fast links"
    held = "; ".join(f"{name} {show_bytes(memory[key])}" for key, name in _MEMORY.items() if memory[key])
    yield "Memory of a chip", f"{held}"
    yield "Memory to spare", f"{show_bytes(memory['spare_bytes'])} of {show_bytes(memory['available_bytes'])}"
    if failures["mtbf_s"] is not None:
        yield (
            "Failures",
            f"one every {show_seconds(failures['mtbf_s'])}, {show_count(failures['n_failures'])} in all; "
            f"{show_frac(failures['goodput_frac'])} of the time is useful",
        )
    if failures["pauses_s"]:
        yield f"Pauses {ASSUMED}", f"{show_seconds(failures['pauses_s'])} for rollbacks, debugging and waiting"
    when = f"every {show_seconds(failures['interval_s'])}" if failures["n_checkpoints"] > 1 else "at the end"
    yield "Checkpoints", f"{show_bytes(failures['checkpoint_bytes'])} {when}"


def _part_row(part: Document) -> tuple[str, ...]:
    return (
        part["name"],
        show_seconds(part["step_s"]),
        show_frac(part["share_frac"]),
        part["bound_by"],
        show_seconds(part["running_s"]),
    )


def _bill_row(name: str, used: Document, usd: Document) -> tuple[str, ...]:
    energy = used["energy"]
    return (
        name,
        short(show_count(used["tokens"])) if used["tokens"] else "–",
        f"{significant(used['flops'])}" if 0 < used["flops"] < 1 else f"{used['flops']:.2e}" if used["flops"] else "–",
        show_hours(used["chip_s"]),
        show_energy(energy["total_j"]) if energy["stamp"] else ABSENT,
        show_usd(usd["p5"]),
        show_usd(usd["value"]),
        show_usd(usd["p95"]),
    )


def _interval(figure: Document | None, show: Callable[[float], str]) -> Sequence[str]:
    if figure is None:
        return ("–", ABSENT, "–")
    return (show(figure["p5"]), show(figure["value"]), show(figure["p95"]))
