"""The tables of a run as plain strings: one builder for each, used alike by the terminal and the HTML page.

Every builder takes a part of a command's JSON document and formats with ``units``; what does not exist reads
``not measured``, never zero. A cell that is exactly one of ``STAMPS`` says how a figure came about, and both
screens show it as a badge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from twobills.report.held_out import held_out
from twobills.report.words import PHASE_WORDS, show_days, show_demand, signed_usd
from twobills.units import (
    show_bytes,
    show_count,
    show_energy,
    show_flops,
    show_flops_per_s,
    show_frac,
    show_seconds,
    show_usd,
    significant,
)
from twobills.usage import PHASES, Job, Phase

Document = Mapping[str, Any]
STAMPS = (
    "measured",
    "predicted",
    "simulated",
    "sourced",
    "counted",
    "estimated",
    "declared",
    "assumed",
    "extrapolated",
    "given",
)
"""The words that say how a figure came about."""
ABSENT = "not measured"


class Table(NamedTuple):
    """A table that is ready to show."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    n_text_columns: int = 1
    """So many leading columns hold words; the others hold figures and belong on the right."""
    has_total: bool = False
    """Whether the last row is the sum of those above."""


def bill_table(bill: Document, planned: Document | None = None, *, explain: bool = True) -> Table:
    """A bill phase by phase, with what each phase was planned to cost if there is a plan.

    ``explain`` says beside each phase's name what it is, where there is room.
    """
    names = _phases_of(bill, planned or {"phases": {}})
    planned_usd = {name: line["usd"] for name, line in planned["phases"].items()} if planned else {}
    rows = [
        _bill_row(_phase_name(name, explain), bill["phases"].get(name), planned_usd.get(name, 0.0) if planned else None)
        for name in names
    ]
    total = {**bill["total"], "usd": bill["total_usd"]}
    rows.append(_bill_row("total", total, planned["total_usd"] if planned else None))
    planned_column = ("Planned",) if planned else ()
    columns = (
        "Phase",
        "Tokens",
        "FLOPs",
        "Bytes",
        "Chip time",
        "Energy",
        "Energy is",
        "Cost",
        *planned_column,
    )
    source = bill["rates"]["source"]
    given = f"price {source}" if source.startswith("given") else f"price from {source}"
    price = "price assumed" if bill["rates"]["assumed"] else given
    title = f"The {bill['job']} bill, {bill['origin']} ({price})"
    return Table(title, columns, rows, has_total=True)


def gap_table(job: str, gaps: Document, *, explain: bool = True) -> Table:
    """A reconciliation: what was planned, the three gaps and what was measured, phase by phase."""
    columns = ("Phase", "Planned", "Work gap", "Speed gap", "Price gap", "Measured")
    rows = [_gap_row(_phase_name(name, explain), line) for name, line in gaps["phases"].items()]
    return Table(f"The {job} bill, from plan to meter", columns, [*rows, _gap_row("total", gaps)], has_total=True)


def life_table(points: Sequence[Document]) -> Table:
    """Both bills over a life: inference per day, when it overtakes training, its share after a year."""
    rows = [
        (
            show_demand(point["requests_per_day"]),
            show_usd(point["usd_per_day"]),
            "never" if point["crossover_days"] is None else show_days(point["crossover_days"]),
            show_frac(point["inference_share_after_year"]),
            "–" if point["n_machines"] is None else f"{point['n_machines']:,}",
            show_usd(point["reserved_usd_per_day"]),
            "never" if point["reserved_crossover_days"] is None else show_days(point["reserved_crossover_days"]),
        )
        for point in points
    ]
    columns = (
        *("Requests a day", "Time used, a day", "overtakes after", "Share in a year"),
        *("Machines", "Always on, a day", "overtake after"),
    )
    return Table("Both bills over the model's life", columns, rows, n_text_columns=0)


def plan_table(plan: Document) -> Table:
    """What was forecast before the first step: time and money of each job, between 5 % and 95 %."""
    rows = []
    for job in Job:
        part = plan.get(job.value)
        if part:
            rows.append((f"{job.value}, time", *_interval(part["wall_s"], show_seconds)))
            rows.append((f"{job.value}, cost", *_interval(part["total_usd"], show_usd)))
    return Table("The plan, made before the first step", ("What", "5 %", "Expected", "95 %"), rows)


def sizes_table(sizes: Sequence[Document]) -> Table:
    """The sizes that were weighed and the one that was taken."""
    rows = [
        (
            f"{size['name']} (chosen)" if size["chosen"] else size["name"],
            show_count(size["n_params"]),
            show_count(size["n_tokens"]),
            f"{rank}.",
        )
        for rank, size in enumerate(sorted(sizes, key=_law_loss), start=1)
    ]
    return Table("The sizes that were weighed", ("Model", "Parameters", "Tokens in the time", "Rank by the law"), rows)


def _peak_memory(training: Document) -> list[tuple[str, str]]:
    """The most that training held at once, where that was forecast or read."""
    planned, measured = training.get("planned_peak_memory_bytes"), training.get("peak_memory_bytes")
    if planned is None:
        return []
    read = f"not read: {training['peak_memory_reason']}" if measured is None else show_bytes(measured)
    return [("Memory at the peak", f"{read} (forecast {show_bytes(planned)})")]


def _law_loss(size: Document) -> float:
    return float(size["law_loss"])


def model_table(document: Document) -> Table:
    """What was trained, on what, and how fast."""
    model, data, training = document["model"], document["data"], document["training"]
    facts = [
        ("Model", f"{model['name']}: {show_count(model['n_params'])} parameters, {model['n_layers']} layers"),
        (
            "Shape",
            f"d_model {model['d_model']}, {model['n_heads']} heads ("
            f"{model['n_kv_heads']} for keys and values), d_ff {model['d_ff']}, "
            f"vocabulary {model['vocab_size']}",
        ),
        ("Data", f"{data['name']}, {data['n_documents']:,} {_pieces(data)}"),
        *_size_of_images(data),
        (
            "To learn from",
            f"{show_bytes(data['training_bytes'])}, {show_count(data['n_training_tokens'])} tokens",
        ),
        (
            "Held out",
            f"{show_bytes(data['heldout_bytes'])} in {data['n_heldout_documents']:,} {_pieces(data)} ({data['split']})",
        ),
        (
            "Seen",
            f"{show_count(training['n_tokens'])} tokens, {significant(training['epochs'])} times through",
        ),
        *_sources(training),
        ("Time", f"{show_seconds(training['wall_s'])} in {training['n_steps']:,} steps"),
        ("Speed", f"{show_count(training['tokens_per_s'])} tokens/s"),
        ("MFU", _maybe(training["mfu"], show_frac) + f" ({training['mfu_convention']})"),
        *_peak_memory(training),
        ("Weights before serving", _maybe(model["digest_before_serving"], str)),
        ("Weights after serving", _maybe(model["digest_after_serving"], str)),
    ]
    return Table("The model and its training", ("What", "Value"), facts, n_text_columns=2)


def _sources(training: Document) -> list[tuple[str, str]]:
    """How much of what was seen came from each source, if there are several."""
    sources = training.get("sources", [])
    if len(sources) < 2:
        return []
    return [
        (f"of {source['name']}", f"{show_frac(source['share'])}, {significant(source['epochs'])} times through")
        for source in sources
    ]


def _size_of_images(data: Document) -> list[tuple[str, str]]:
    if data.get("modality") != "images":
        return []
    kind = "grey" if data["n_channels"] == 1 else "RGB"
    levels = f"{data['n_levels']} levels (quantised: {data['quantised']})"
    return [("Images", f"{data['width']} x {data['height']} {kind}, {levels}, {len(data['classes'])} classes")]


def _pieces(data: Document) -> str:
    return "images" if data.get("modality") == "images" else "documents"


def quality_table(quality: Document) -> Table:
    """Held-out bits per byte or pixel beside the compressors'."""
    found = held_out(quality)
    rows = [("this model", _maybe(found.bits, significant))]
    rows += [(f"{other.name}, {other.how}", _maybe(other.bits, significant)) for other in found.others]
    return Table(f"Held-out {found.noun}", ("Who", f"Bits per {found.unit}"), rows)


def requests_table(requests: Document) -> Table:
    """How long the requests took, as their senders felt it."""
    names = ("mean", "p50", "p90", "p99")
    rows = []
    for label, key in (("first token", "ttft_s"), ("whole answer", "e2e_s")):
        spread = requests.get(key)
        rows.append((label, *(_maybe(spread[n] if spread else None, show_seconds) for n in names)))
    title = f"{requests['sent']:,} requests, {requests['concurrency']} at once"
    return Table(title, ("Time to", "mean", "half within", "90 % within", "99 % within"), rows)


def machine_table(machine: Document) -> Table:
    """What the machine was measured to do before anything was planned on it."""
    rows = [
        ("Machine", f"{machine['name']}, {machine['n_chips']} x {machine['chip']}", "measured"),
        ("Memory", show_bytes(machine["memory_bytes"]), "measured"),
        *(
            (f"Matrix products, {dtype}", show_flops_per_s(rate), "measured")
            for dtype, rate in machine["matmul_flops_per_s"].items()
        ),
        ("Memory bandwidth", f"{show_bytes(machine['memory_bytes_per_s'])}/s", "measured"),
        ("One operator call", _show_microseconds(machine["call_overhead_s"]), "measured"),
        ("Power counters", ", ".join(machine["power_counters"]) or "none readable", "measured"),
        ("Power", machine["power_source"], machine["power_stamp"]),
    ]
    return Table("This machine", ("What", "Value", "How known"), rows, n_text_columns=3)


def provenance_table(facts: Sequence[Document]) -> Table:
    """Where each input comes from."""
    keys = ("what", "value", "how", "source", "as_of")
    rows = [tuple("" if fact.get(key) is None else str(fact[key]) for key in keys) for fact in facts]
    columns = ("What", "Value", "How known", "Source", "As of")
    return Table("Where the numbers come from", columns, rows, n_text_columns=5)


def _phases_of(*bills: Document) -> list[str]:
    """The phases that any of the bills has, in the order of the jobs' phases."""
    return [p.value for job in Job for p in PHASES[job] if any(p.value in bill["phases"] for bill in bills)]


def _phase_name(name: str, explain: bool) -> str:
    return f"{name}: {PHASE_WORDS[Phase(name)]}" if explain else name


def _bill_row(name: str, used: Document | None, planned_usd: float | None) -> tuple[str, ...]:
    plan = () if planned_usd is None else (show_usd(planned_usd),)
    if used is None:
        return (name, *("–" for _ in range(6)), show_usd(0.0), *plan)
    energy = used["energy"]
    return (
        name,
        show_count(used["tokens"]) if used["tokens"] else "–",
        show_flops(used["flops"]) if used["flops"] else "–",
        show_bytes(used["bytes"]) if used["bytes"] else "–",
        show_seconds(used["chip_s"]),
        show_energy(energy["total_j"]) if energy["stamp"] else ABSENT if used["chip_s"] else "–",
        energy["stamp"] or "–",
        show_usd(used["usd"]),
        *plan,
    )


def _gap_row(name: str, line: Document) -> tuple[str, ...]:
    gaps: Iterable[str] = (
        signed_usd(line[f"{cause}_usd"], beside=line["measured_usd"]) for cause in ("work", "speed", "price")
    )
    return (name, show_usd(line["planned_usd"]), *gaps, show_usd(line["measured_usd"]))


def _interval(figure: Document | None, show: Any) -> tuple[str, str, str]:
    if figure is None:
        return ("–", ABSENT, "–")
    return (show(figure["p5"]), show(figure["value"]), show(figure["p95"]))


def _maybe(value: Any, show: Any) -> str:
    return ABSENT if value is None else str(show(value))


def _show_microseconds(seconds: float) -> str:
    return f"{significant(seconds * 1e6)} µs" if seconds < 1e-3 else show_seconds(seconds)
