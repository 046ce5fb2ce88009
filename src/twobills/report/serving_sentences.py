"""Plain sentences about a planned inference bill: what an answer costs, who pays, what binds, what would change it."""

from __future__ import annotations

from collections.abc import Sequence

from twobills.report.tables import Document
from twobills.report.words import short
from twobills.units import show_count, show_frac, show_seconds, show_usd, significant

_BOUND = {
    "compute": "arithmetic",
    "memory": "reading and writing memory",
    "fast links": "the fast links between chips",
    "network": "the network",
    "engine": "the engine's own work",
}


def serving_sentence(document: Document) -> str:
    """What answers cost and take, and what would change it most."""
    served, chip = document["inference"], document["chip"]
    tokens, usd = served["usd_per_mtok_reserved"], served["usd_per_request_reserved"]
    n_chips = served["n_chips"]
    chips = f"{n_chips:,} x {chip['name']}" if n_chips > 1 else f"one {chip['name']}"
    return (
        f"This is the inference bill, paid for every answer: {document['model']['name']} on {chips}, {_load(served)}, "
        f"should cost {show_usd(usd['value'])} a request (likely {show_usd(usd['p5'])} to {show_usd(usd['p95'])}): "
        f"{show_usd(tokens['input']['value'])} for a million tokens read and {show_usd(tokens['output']['value'])} for "
        f"a million written. The first token comes after {show_seconds(served['ttft_s']['value'])}, then one every "
        f"{show_seconds(served['tpot_s']['value'])}. {levers_sentence(served['levers'], usd['value'])}"
    )


def levers_sentence(levers: Sequence[Document], usd_per_request: float) -> str:
    """What of what was tried would save most."""
    best = max(levers, key=lambda lever: float(lever["saves_usd"]), default=None)
    if best is None or best["saves_usd"] <= 0.005 * usd_per_request:
        return "Nothing that was tried saves much."
    share = show_frac(best["saves_usd"] / usd_per_request)
    return f"Of what was tried, {best['change']} would save most: {share} of it."


def payers_sentence(document: Document) -> str:
    """Who pays for the time in which steps run, and how much of what is reserved that is."""
    served, bill = document["inference"], document["inference"]["bill"]
    shares = served["shares"]
    idle = bill["phases"]["idle"]["chip_s"] / bill["total"]["chip_s"]
    parts = [f"{show_frac(shares['input_frac'])} for input", f"{show_frac(shares['output_frac'])} for output"]
    if shares["cached_input_frac"]:
        parts.insert(1, f"{show_frac(shares['cached_input_frac'])} for cached input")
    waiting = f"{show_frac(idle)} of the reserved time waits for requests" if idle > 1e-6 else "no reserved time waits"
    return (
        f"Of the chip-seconds in which steps run, {', '.join(parts)}: input pays for what prompts add to a step and "
        f"for their keys being read, output for the rest; {waiting}."
    )


def step_sentence(document: Document) -> str:
    """What binds most of a step."""
    bound = document["inference"]["bound_by"].items()
    words = [f"{show_frac(share)} for {_BOUND[name]}" for name, share in bound if share >= 0.001]
    return f"Of a step's time, {', '.join(words)}; the longest part is {document['step_parts'][0]['name']}."


def assumed_sentence(assumed: Sequence[str]) -> str:
    """What is assumed, all of it."""
    return f"Assumed (~): {'; '.join(assumed)}."


def _load(served: Document) -> str:
    lengths = f"prompts of {short(show_count(served['prompt_tokens']))} and answers of "
    lengths += f"{short(show_count(served['answer_tokens']))} tokens"
    if served["requests_per_s"] is not None:
        return f"{short(significant(served['requests_per_s']))} requests a second with {lengths}"
    if served["concurrency"] is not None:
        return f"{short(show_count(served['concurrency']))} clients at once with {lengths}"
    return f"as many {lengths} as it can take"
