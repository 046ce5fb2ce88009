"""What ``twobills size`` found: one plain sentence, sizes side by side, other ways, from which demand it pays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twobills.report.tables import Document, Table
from twobills.units import show_count, show_flops, show_frac, show_usd, significant

NONE = "–"


def size_sentence(found: Document) -> str:
    """What costs least, how sure that is, and what the bill is made of."""
    best, flops = found["in_dollars"], found["in_flops"]
    n_params, total = best["n_params"], best["total_usd"]
    share = best["inference_share"]
    part = f"{show_frac(share)} of it inference" if share >= 0.5 else f"{show_frac(1 - share)} of it training"
    words = (
        f"To be as good as {_as_good_as(found)} and {_life(found)}, {show_count(n_params['value'])} parameters"
        f"{_range(n_params, show_count)} on {show_count(best['n_tokens']['value'])} tokens cost least: "
        f"{show_usd(total['value'])}{_range(total, show_usd)}, {part}. "
    )
    other = found["disagreement"]["disagree"]
    words += f"FLOPs alone {'would say' if other else 'say so too:'} {show_count(flops['n_params']['value'])}."
    if best["outside"]:
        words += f" This is {best['outside']}: an extrapolation."
    return words


def sizes_table(found: Document) -> Table:
    """The best in dollars, in FLOPs, and what they are held against."""
    best = found["in_dollars"]
    rows = [
        _size_row(
            "best in dollars",
            {
                **{
                    key: best[key]["value"]
                    for key in ("n_params", "n_tokens", "train_usd", "inference_usd", "total_usd")
                },
                "train_flops": best["train_flops"],
                "inference_flops": best["inference_flops"],
            },
            best["total_usd"]["value"],
        ),
        *(_size_row(each["size"], each, best["total_usd"]["value"]) for each in found["compared"]),
    ]
    train, serve = best["training"], best["serving"]
    title = (
        f"The best in dollars: trained on {train['n_chips']:,} x {train['chip']} in {significant(train['wall_days'])} "
        f"days, served on {serve['n_machines']:,.0f} x {serve['chip']}:{serve['machine_chips']}"
    )
    columns = (
        *("Size", "Parameters", "Trained on", "Train FLOPs", "Infer FLOPs", "Training", "Inference", "Both"),
        "Over best",
    )
    return Table(title, columns, rows)


def options_table(found: Document) -> Table:
    """The same quality otherwise."""
    rows = [_option_row(each) for each in found["options"]]
    columns = ("Option", "Parameters", "Trained on", "Training", "Inference", "Both", "Saves", "Note")
    return Table("The same quality otherwise (each rests on assumptions, below)", columns, rows)


def outside_sentence(found: Document) -> str | None:
    """Which options lie beyond what their laws were fitted on."""
    known = [each for each in found["options"] if not each.get("reason")]
    beyond = [each["label"] for each in known if each["outside"]]
    if not beyond:
        return None
    which = "All of these lie" if len(beyond) == len(known) else f"Of these lie {', '.join(beyond)}"
    return f"{which} outside what their laws were fitted on: extrapolations, --json says how far."


def cheapest_sentence(found: Document) -> str:
    """Which of the options costs least; a student is held against another law's bill and left out."""
    label = found["cheapest_option"]
    best = next(each for each in found["options"] if each["label"] == label)
    if best["kind"] == "as_is":
        return "None of them is cheaper than the model as it is."
    return f"Cheapest of them: {label}, {show_frac(best['saving_frac'])} below the model as it is."


def pays_sentences(found: Document) -> Iterator[str]:
    """From which demand a known model's size pays."""
    pays = found["pays"]
    if pays["model"] is None:
        return
    flops, dollars, name = pays["in_flops"], pays["in_dollars"], pays["model"]
    optimal = f"the compute-optimal {show_count(pays['compute_optimal_n_params'])} of its loss"
    if flops["pays_from_answers"] is None:
        yield f"In FLOPs the size of {name} never pays: {flops['reason']}."
    else:
        yield (
            f"In FLOPs the size of {name} is cheaper than {optimal} from {show_count(flops['pays_from_answers'])} such "
            f"answers, and the best of all sizes at {show_count(flops['best_at_answers'])}."
        )
    if dollars is None:
        yield f"In dollars that is not known: {pays['reason']}."
        return
    if dollars["pays_from_answers"] is None:
        words = f"In dollars it is {dollars['reason']}"
    else:
        words = f"In dollars it is cheaper from {show_count(dollars['pays_from_answers'])}"
    low, high = dollars["near_best_from_answers"], dollars["near_best_to_answers"]
    if low is None:
        yield f"{words}; it is {show_frac(dollars['over_best_frac'])} above the cheapest size at best."
    else:
        until = "on" if high is None else f"to {show_count(high)}"
        yield f"{words}, and within 5 % of the cheapest size from {show_count(low)} {until}."


def flat_sentence(found: Document) -> str:
    """How flat both optima are, and how much was looked at."""
    (low, high), (flop_low, flop_high) = (found[key]["near_best_n_params"] for key in ("in_dollars", "in_flops"))
    points = found["grid"]
    return (
        f"Within 5 % of the best lie {show_count(low)} to {show_count(high)} parameters in dollars, "
        f"{show_count(flop_low)} to {show_count(flop_high)} in FLOPs. {points['n_points']:,} combinations of size, "
        f"tokens, chips and format were priced in {points['search_s']:.2f} s.{_better_and_worse(found)}"
    )


def _better_and_worse(found: Document) -> str:
    """What the cheapest model costs that has 5 % less, or more, left to learn."""
    usd = {round(each["reducible_factor"], 3): each["total_usd"] for each in found["frontier"]}
    if not {0.95, 1.05} <= set(usd):
        return ""
    return (
        f" A model with 5 % less left to learn by the law would cost {show_usd(usd[0.95])}, one with 5 % more "
        f"{show_usd(usd[1.05])}."
    )


def _as_good_as(found: Document) -> str:
    quality = found["quality"]
    by = f"by {found['law']['name']}, loss {significant(quality['target_loss'], 4)}"
    if quality["given_as"] == "model":
        return f"{quality['model']} ({by})"
    if quality["given_as"] == "params":
        return f"the compute-optimal {show_count(quality['n_params'])} ({by})"
    return f"loss {significant(quality['target_loss'], 4)} ({by.partition(',')[0]})"


def _life(found: Document) -> str:
    demand = found["demand"]
    if not demand["n_answers"]:
        return "answer nothing"
    return f"answer {show_count(demand['n_answers'])} times in {demand['life_days']:,.0f} days"


def _range(figure: Document, show: Any) -> str:
    if figure["p5"] is None:
        return ""
    return f" ({show(figure['p5'])} to {NONE if figure['p95'] is None else show(figure['p95'])})"


def _size_row(label: str, row: Document, best_usd: float) -> tuple[str, ...]:
    usd = row["total_usd"]
    return (
        label,
        show_count(row["n_params"]),
        show_count(row["n_tokens"]),
        show_flops(row["train_flops"]),
        show_flops(row["inference_flops"]),
        *(NONE if row[key] is None else show_usd(row[key]) for key in ("train_usd", "inference_usd", "total_usd")),
        NONE if usd is None or not best_usd else show_frac(usd / best_usd - 1),
    )


def _option_row(each: Document) -> tuple[str, ...]:
    if each.get("reason"):
        return (each["label"], *[NONE] * 6, each["reason"])
    return (
        each["label"],
        show_count(each["n_params"]),
        show_count(each["n_tokens"]),
        show_usd(each["train_usd"]),
        show_usd(each["inference_usd"]),
        show_usd(each["total_usd"]),
        NONE if each["kind"] == "as_is" or "saving_frac" not in each else show_frac(each["saving_frac"]),
        "; ".join(_notes(each)),
    )


def _notes(each: Document) -> Iterator[str]:
    if "teacher_usd" in each:
        yield f"teacher {show_usd(each['teacher_usd'])}; {show_usd(each['versus_usd'])} without one"
    if "epochs" in each:
        yield f"{significant(each['epochs'])} epochs"
    if "matched_inference_factor" in each:
        yield f"FLOPs allow {significant(each['matched_inference_factor'])}x its inference"
