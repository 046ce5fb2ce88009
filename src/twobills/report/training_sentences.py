"""Plain sentences about a planned training run: what it costs, what dominates, what would change it most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from twobills.report.tables import Document
from twobills.report.words import PHASE_WORDS, short
from twobills.units import show_count, show_frac, show_seconds, show_usd
from twobills.usage import Phase

_JOBS = {
    "pretrain": "teaching {model} from nothing",
    "finetune": "fine-tuning all of {model}",
    "lora": "fine-tuning {model} through small adapters",
    "distill": "teaching {model} from {teacher}",
}
_BOUND = {
    "compute": "arithmetic",
    "memory": "reading and writing memory",
    "fast links": "the fast links between chips",
    "network": "the network",
    "pipeline": "pipeline stages waiting for each other",
    "slowest chip": "the slowest of many chips",
}


def run_sentence(document: Document) -> str:
    """What the run costs and takes, what dominates the bill, and what would change it most."""
    run, chip = document["training"], document["chip"]
    usd = run["total_usd"]
    job = _JOBS[run["job"]].format(
        model=document["model"]["name"], teacher=run["teacher"]["name"] if run["teacher"] else ""
    )
    chips = f"{chip['n_chips']:,} x {chip['name']}" if chip["n_chips"] > 1 else f"one {chip['name']}"
    name, line = max(run["bill"]["phases"].items(), key=lambda item: float(item[1]["chip_s"]))
    share = line["chip_s"] / run["bill"]["total"]["chip_s"]
    return (
        f"This is the training bill, paid once to make the model: {job} on {short(show_count(run['n_tokens']))} tokens "
        f"should cost {show_usd(usd['value'])} (likely {show_usd(usd['p5'])} to {show_usd(usd['p95'])}) and take "
        f"{show_seconds(run['wall_s']['value'])} on {chips}. {show_frac(share)} of that time is "
        f"{_dominant(Phase(name))}. {_published(run['published_hours_over_forecast'])} "
        f"{levers_sentence(run['levers'], usd['value'])}"
    )


def levers_sentence(levers: Sequence[Document], total_usd: float) -> str:
    """What would change the bill most; half the tokens always halves it, so the best other thing is named."""
    best = max(levers, key=lambda lever: float(lever["saves_usd"]), default=None)
    halved = "Half the tokens would halve it"
    if best is None or best["saves_usd"] <= 0.005 * total_usd:
        return f"{halved}; nothing else that was tried saves much."
    share = best["saves_usd"] / total_usd
    return (
        f"{halved}; on the same tokens, {best['change']} would change it most: {show_usd(best['saves_usd'])} less "
        f"({show_frac(share)})."
    )


def split_sentence(document: Document) -> str:
    """Who gets most of each dollar; why nobody knows, if nobody does."""
    split = document["training"]["split"]
    if split is None:
        return f"Who gets each dollar cannot be told: {document['training']['split_reason']}."
    if not split["total_usd"]:
        return "Nothing is paid, so nobody gets anything."
    largest = max(split["parts"], key=lambda part: float(part["usd"]))
    words = (
        f"Of each dollar, the largest part ({show_frac(largest['share_frac'])}) is for: {largest['payee']}. Estimated, "
        f"capital written off by {split['convention']}"
    )
    if split["below_estimated_cost"]:
        return f"{words}. The rent is below what owning such chips is estimated to cost."
    return f"{words}."


def step_sentence(parts: Sequence[Document]) -> str:
    """What binds most of a step."""
    shares: Counter[str] = Counter()
    for part in parts:
        shares[part["bound_by"]] += part["share_frac"]
    (first, share), *others = shares.most_common()
    words = f"{show_frac(share)} of a step waits for {_BOUND[first]}"
    if others and others[0][1] >= 0.001:
        words += f", {show_frac(others[0][1])} for {_BOUND[others[0][0]]}"
    longest = parts[0]
    return f"{words}; the longest part is {longest['name']} ({show_frac(longest['share_frac'])})."


def assumed_sentence(assumed: Sequence[str]) -> str:
    """What is assumed, all of it."""
    return f"Assumed (~): {'; '.join(assumed)}."


def _published(over_forecast: Document) -> str:
    """That a forecast is of the plan as given, which runs seldom keep to."""
    less, more = show_frac(1 - over_forecast["p5"]), show_frac(over_forecast["p95"] - 1)
    return f"These are the hours of the plan as given: published runs took from {less} less to {more} more."


def _dominant(phase: Phase) -> str:
    """What a phase is for, then what is left for the others: no phase is named twice."""
    if phase is Phase.LOST:
        return "lost to failures, checkpoints and pauses, the rest for learning and checking"
    rest = "learning" if phase is Phase.EVALUATE else "checking"
    return f"for {PHASE_WORDS[phase]}, the rest for {rest}, checkpoints, failures and pauses"
