"""What a search for the best way to serve found: one plain sentence, the ranking, the front.

A way stands in one short column: ``4x tp2`` is four instances of two tensor-parallel chips each; where two pools share
the work, the one that reads prompts comes first: ``3x tp1 > 2x tp2``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twobills.report.tables import Document, Table
from twobills.units import show_count, show_frac, show_seconds, show_usd, significant

LEGEND = (
    "4x tp2: four instances of tensor parallelism 2 (pp pipeline, ep expert, dp attention-data parallelism); a > b: "
    "instances a read prompts, b write answers. Formats are of weights/cache. Running is sequences of one writing "
    "instance. TTFT is the mean time to the first token, TPOT the time per token after it; $/Mtok is for a million "
    "answer tokens, prompts included."
)
WANTED = {"dollars": "cheapest", "throughput": "most productive", "latency": "quickest"}


def serving_search_sentence(found: Document) -> str:
    """How many ways there are, what the best takes and costs, and what the other mode would."""
    best = found["ranking"][0]
    which = WANTED[found["objective"]] if best["meets"] else "closest"
    usd = best["usd_per_mtok"]
    said = [
        f"Of {found['n_candidates']:,} ways to serve {found['model']['name']} on prompts of "
        f"{show_count(found['prompt_tokens'])} and answers of {show_count(found['answer_tokens'])} tokens, "
        f"{_meeting(found)}; the {which}, on {best['n_chips']} x {best['chip']} with {best['weights']} weights, costs "
        f"{show_usd(usd['value'])} ({show_usd(usd['p5'])} to {show_usd(usd['p95'])}) per million answer tokens: first "
        f"token after {show_seconds(best['ttft_s']['value'])}, then one every {show_seconds(best['tpot_s']['value'])}, "
        f"{significant(best['tokens_per_s_per_chip'])} tokens/s per chip."
    ]
    return " ".join([*said, *_other_mode(found), *_fewest(found)])


def best_table(found: Document) -> Table:
    """The best of each kind of chip and weight format."""
    return _table("The best of each kind of chip and weight format", found["best"])


def ranking_table(found: Document) -> Table:
    """The best ways that differ in chips, formats or spread."""
    return _table(f"The {WANTED[found['objective']]} first, ways that differ in spread or format", found["ranking"])


def front_table(found: Document, top: int) -> Table:
    """Ways that no other beats in tokens/s per chip, tokens/s per user and dollars."""
    rows = found["front"]
    shown = rows if len(rows) <= top else [rows[round(i * (len(rows) - 1) / max(top - 1, 1))] for i in range(top)]
    of = "" if len(shown) == len(rows) else f" ({len(shown)} of {len(rows)}; --json has all)"
    return _table(f"Nothing beats these in speed per user, per chip and dollars at once{of}", shown)


def _table(title: str, rows: Sequence[Document]) -> Table:
    cells = [
        (
            f"{row['chip']}:{row['n_chips']}",
            describe(row),
            f"{row['weights']}/{row['kv']}",
            str(row["batch"]),
            show_seconds(row["ttft_s"]["value"]),
            show_seconds(row["tpot_s"]["value"]),
            significant(row["tokens_per_s_per_chip"]),
            show_usd(row["usd_per_mtok"]["value"]),
        )
        for row in rows
    ]
    columns = ("Chips", "Instances", "Formats", "Running", "TTFT", "TPOT", "tok/s/chip", "$/Mtok")
    return Table(title, columns, cells, 3)


def describe(row: Document) -> str:
    """``8x tp1``, or ``3x tp1 > 2x tp2``."""
    writing = f"{row['n_instances']}x {_spread(row['plan'])}"
    prefill = row["prefill"]
    return writing if prefill is None else f"{prefill['n_instances']}x {_spread(prefill['plan'])} > {writing}"


def _spread(plan: Mapping[str, Any]) -> str:
    return f"tp{plan['tp']}" + "".join(f"{name}{plan[name]}" for name in ("pp", "ep", "dp") if plan[name] > 1)


def _meeting(found: Document) -> str:
    targets = [
        f"{name} {show_seconds(found[key])}"
        for name, key in (("TTFT", "ttft_target_s"), ("TPOT", "tpot_target_s"))
        if found[key] is not None
    ]
    if found["requests_per_s"] is not None:
        targets.append(f"{found['requests_per_s']:g} requests a second")
    if not targets:
        return f"{found['n_meet']:,} of them fit"
    return f"{found['n_meet'] or 'none'} of them meet{'s' * (found['n_meet'] == 1)} {', '.join(targets)}".replace(
        f"{found['n_meet']} of", f"{found['n_meet']:,} of"
    )


def _other_mode(found: Document) -> list[str]:
    """What reading prompts in the same instances, or in a pool of their own, would cost instead."""
    best, *rest = found["modes"]
    if not rest or not best["meets"]:
        return []
    other = rest[0]
    more = other["usd_per_mtok"]["value"] / best["usd_per_mtok"]["value"] - 1
    where = "in a pool of its own" if other["prefill"] else "in the instances that write"
    words = f"{show_frac(abs(more))} {'more' if more > 0 else 'less'}" if abs(more) >= 5e-4 else "the same"
    return [f"Reading prompts {where} would cost {words}."]


def _fewest(found: Document) -> list[str]:
    fewest, best = found["fewest_chips"], found["ranking"][0]
    if fewest is None or fewest["n_chips"] >= best["n_chips"]:
        return []
    return [f"The fewest chips for it are {fewest['n_chips']} x {fewest['chip']}, {describe(fewest)}."]
