"""What a search for the best way to train found: one plain sentence, the ranking, the front.

A plan stands in two short columns. Degrees: tp tensor, pp pipeline, cp context, ep expert, dp data parallelism; what
is 1 is left out. Settings: number format, z ZeRO stage (/N: shared out among N, not all), m sequences per
micro-batch, v model pieces per pipeline stage, then what is recomputed (sel: selective, full).
"""

from __future__ import annotations

from collections.abc import Sequence

from twobills.report.tables import Document, Table
from twobills.units import SECONDS_PER_DAY, show_count, show_frac, show_seconds, show_usd, significant

LEGEND = (
    "tp tensor, pp pipeline, cp context, ep expert, dp data parallelism; z ZeRO stage (/N among N chips, not all); m "
    "sequences per micro-batch; v pieces of the model per pipeline stage; sel or full: recomputation. Spare is memory "
    "of each chip, MFU is of the 16-bit peak."
)
ASSUMED = "~"
MARKS = f"{ASSUMED} after days: speed taken from other kinds of chips; after a cost: a price that is assumed."
WANTED = {"time": "fastest", "dollars": "cheapest", "memory": "roomiest"}
_WAITS = {
    "exposed_frac": "waiting for transfers",
    "bubble_frac": "pipeline stages without work",
    "straggling_frac": "waiting for the slowest chip",
}


def search_sentence(found: Document) -> str:
    """How many ways there are, what the winner takes and costs, and what keeps its chips from computing."""
    winner = found["ranking"][0]
    wall, usd = winner["wall_s"], winner["total_usd"]
    wait = max(_WAITS, key=lambda key: float(winner[key]))
    said = [
        f"Of {found['n_plans']:,} ways to train {found['model']['name']} on {show_count(found['n_tokens'])} tokens, "
        f"{found['n_fit']:,} fit in memory; the {WANTED[found['objective']]}{_in_time(found)}, on "
        f"{winner['n_chips']:,} x {winner['chip']}, takes {show_seconds(wall['value'])} ({show_seconds(wall['p5'])} to "
        f"{show_seconds(wall['p95'])}) and costs {show_usd(usd['value'])} ({show_usd(usd['p5'])} to "
        f"{show_usd(usd['p95'])}).",
        f"Its chips compute for {show_frac(winner['compute_frac'])} of the time"
        + (f"; the largest part of the rest is {_WAITS[wait]} ({show_frac(winner[wait])})." if winner[wait] else "."),
    ]
    return " ".join([*said, *_doubts(winner), *_other_winner(found)])


def legend(found: Document) -> str:
    """What the tables' letters and marks mean."""
    rows = (*found["best"], *found["ranking"], *found["front"])
    marked = any(row["speed_assumed"] or row["price_assumed"] for row in rows)
    return f"{LEGEND} {MARKS}" if marked else LEGEND


def best_table(found: Document) -> Table:
    """The best plan on each of several clusters."""
    return _table("The best plan on each kind and number of chips", found["best"], chips=True)


def ranking_table(found: Document) -> Table:
    """The best plans that differ in chips, degrees or format."""
    return _table(
        f"The {WANTED[found['objective']]} first, plans of different degrees", found["ranking"], _several(found)
    )


def front_table(found: Document, top: int) -> Table:
    """Plans that no other beats in time, dollars and memory at once."""
    shown = _spread(found["front"], top)
    of = "" if len(shown) == len(found["front"]) else f" ({len(shown)} of {len(found['front'])}; --json has all)"
    return _table(f"Nothing beats these in time, dollars and memory at once{of}", shown, _several(found))


def refusals(found: Document) -> list[str]:
    """Chips that are not in the tables, and why."""
    return [str(each["reason"]) for each in found["refused"]]


def _table(title: str, rows: Sequence[Document], chips: bool) -> Table:
    columns = ("Degrees", "Settings", "Days", "Cost", "$/Ttok", "MFU", "Computing", "Step", "Spare")
    cells = [
        (
            _degrees(row["plan"]),
            _settings(row),
            significant(row["wall_s"]["value"] / SECONDS_PER_DAY) + _mark(row["speed_assumed"]),
            show_usd(row["total_usd"]["value"]) + _mark(row["price_assumed"]),
            show_usd(row["usd_per_ttoken"]["value"]),
            show_frac(row["mfu"]),
            show_frac(row["compute_frac"]),
            show_seconds(row["step_s"]["value"]),
            show_frac(row["spare_frac"]),
        )
        for row in rows
    ]
    if chips:
        columns = ("Chips", *columns)  # type: ignore[assignment]
        named = [f"{row['chip']}:{row['n_chips']}" for row in rows]
        cells = [(name, *row) for name, row in zip(named, cells, strict=True)]  # type: ignore[misc]
    return Table(title, columns, cells, 3 if chips else 2)


def _mark(assumed: str | None) -> str:
    return f" {ASSUMED}" if assumed else ""


def _doubts(row: Document) -> list[str]:
    """What of a row that wins is assumed."""
    speed, source = row["speed_assumed"], row["price_assumed"]
    return [
        *([f"Assumed of {row['chip']}: {speed}."] if speed else []),
        *([f"Its price is assumed: {source}."] if source else []),
    ]


def _degrees(plan: Document) -> str:
    shown = [f"{name}{plan[name]}" for name in ("tp", "pp", "cp", "ep", "dp") if plan[name] > 1]
    return " ".join(shown) or "one chip"


def _settings(row: Document) -> str:
    plan = row["plan"]
    shared = "" if plan["shard"] == plan["dp"] * plan["cp"] or not plan["zero"] else f"/{plan['shard']}"
    words = [row["dtype"], f"z{plan['zero']}{shared}", f"m{plan['micro_batch']}"]
    if plan["interleave"] > 1:
        words.append(f"v{plan['interleave']}")
    return " ".join([*words, *{"none": [], "selective": ["sel"], "full": ["full"]}[plan["recompute"]]])


def _in_time(found: Document) -> str:
    return "" if found["max_days"] is None or found["missed"] else f" of those within {found['max_days']:g} days"


def _several(found: Document) -> bool:
    return len(found["best"]) > 1


def _other_winner(found: Document) -> list[str]:
    """Over several clusters: who wins if it is money, or time, that counts."""
    other = "total_usd" if found["objective"] != "dollars" else "wall_s"
    best, winner = min(found["best"], key=lambda row: float(row[other]["value"])), found["ranking"][0]
    if not _several(found) or best[other]["value"] >= winner[other]["value"]:
        return []
    chips = f"{best['n_chips']:,} x {best['chip']}"
    if other == "wall_s":
        return [f"The fastest is {chips}: {show_seconds(best[other]['value'])}.", *_doubts(best)]
    return [f"The cheapest is {chips}: {show_usd(best[other]['value'])}.", *_doubts(best)]


def _spread(rows: Sequence[Document], top: int) -> list[Document]:
    """At most ``top`` of them, from first to last at even steps."""
    if len(rows) <= top:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / max(top - 1, 1))] for i in range(top)]
