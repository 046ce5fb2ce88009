"""``docs/two-bills.md``: from what traffic on using a model costs more than building it, as Markdown and as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twobills.report.tables import Table
from twobills.report.words import short, show_days, show_demand
from twobills.units import show_count, show_frac, show_usd

Document = Mapping[str, Any]
_ESTIMATED = "~"


def two_bills_sentence(document: Document) -> str:
    """Where using the models begins to cost more than building them did."""
    models = sorted(document["models"], key=lambda each: float(each["equal_requests_per_day"]["value"]))
    (first, low), (last, high) = ((each["name"], _equal(each)) for each in (models[0], models[-1]))
    return (
        f"A year of answers costs as much as the training from {low} requests a day on for {first}, from {high} on for "
        f"{last}; at {document['dwarfs_factor']:g} times that, using the model dwarfs building it."
    )


def models_table(document: Document) -> Table:
    """Training, one serving machine, and the traffic at which a year of inference equals and dwarfs training."""
    rows = [
        (
            model["name"] + (f" {_ESTIMATED}" if model["assumed"] else ""),
            show_usd(model["training_usd"]["value"]),
            show_usd(model["usd_per_million_requests"]),
            _equal(model),
            f"{show_demand(model['equal_requests_per_day']['p5'])} to "
            f"{show_demand(model['equal_requests_per_day']['p95'])}",
            show_demand(model["dwarfs_requests_per_day"]["value"]),
        )
        for model in document["models"]
    ]
    columns = ("Model", "Training", "A million answers", "Equal at, a day", "Likely", "Dwarfed at, a day")
    return Table("Requests a day from which a year of inference outweighs training", columns, rows)


def crossing_table(document: Document) -> Table:
    """Time until inference has cost as much as training, by traffic."""
    rows = [
        (model["name"], *("> 100 years" if days is None else show_days(days) for days in model["crossover_days"]))
        for model in document["models"]
    ]
    columns = ("Model", *(f"{show_demand(traffic)} a day" for traffic in document["traffic"]))
    return Table("Time until inference has cost as much as training", columns, rows)


def inputs_table(document: Document) -> Table:
    """What each model was trained on and is served on, with our chip-hours beside those reported."""
    rows = [
        (
            model["name"],
            short(show_count(model["n_tokens"])),
            model["train_chips"],
            f"{short(show_count(model['chip_hours']))}",
            f"{short(show_count(model['reported_chip_hours']))}",
            show_frac(model["chip_hours"] / model["reported_chip_hours"] - 1),
            f"{model['machine']}, {model['weights']}",
        )
        for model in document["models"]
    ]
    columns = ("Model", "Tokens", "Trained on", "Chip-hours", "Reported", "Miss", "One serving machine")
    return Table("Inputs", columns, rows)


def two_bills_page(document: Document) -> str:
    """The page."""
    prices = {
        f"- {model['train_chips'].partition(':')[0]}: {show_usd(model['usd_per_chip_hour'])}"
        f"{' ' + _ESTIMATED if model['price_assumed'] else ''} an hour ({model['price_source']})"
        for model in document["models"]
    }
    first = document["models"][0]
    prices.add(
        f"- {first['machine'].partition(' x ')[2]}, serving: {show_usd(first['serving_usd_per_chip_hour'])} an hour "
        f"({first['serving_price_source']})"
    )
    assumed = [f"- {model['name']}, {line}" for model in document["models"] for line in model["assumed"]]
    sources = [f"- {model['name']}: {model['source']} ({model['as_of']})" for model in document["models"]]
    return (
        "\n\n".join(
            [
                "# The two bills of well-known models",
                "Written by `twobills plan table docs/two-bills.md`; do not edit.",
                two_bills_sentence(document),
                _rules(document),
                f"## From what traffic on\n\n{_markdown(models_table(document))}",
                "*Equal at*: a year of inference costs as much as the training. *Dwarfed at*: "
                f"{document['dwarfs_factor']:g} times as much. *A million answers*: of machines that are that full.",
                f"## How long it takes\n\n{_markdown(crossing_table(document))}",
                "One machine is always on, so little traffic costs as much as what fills it.",
                f"## Inputs\n\n{_markdown(inputs_table(document))}",
                "*Chip-hours* are forecast from tokens and chips only; *Reported* are the makers' own, and no input.",
                "Training, as its makers describe it:\n\n" + "\n".join(sources),
                "Assumed, because no source states it:\n\n" + "\n".join(assumed),
                "Prices of a chip-hour:\n\n" + "\n".join(sorted(prices)),
            ]
        )
        + "\n"
    )


def _rules(document: Document) -> str:
    """How the models are compared."""
    return (
        f"Every model answers prompts of {document['prompt_tokens']:,} tokens with {document['answer_tokens']:,}, "
        f"with nothing cached, on machines of as many {document['serve_chips']} as answer cheaply, at most "
        f"{show_frac(document['fill_frac'])} full, always on, the traffic even over the day, all at today's rented "
        "prices. Training is one run at today's prices too, without the people, the data and the runs before it. "
        f"*Likely* is between the 5th and 95th percentile of both forecasts; {_ESTIMATED} marks a model with an "
        "input that is assumed."
    )


def _equal(model: Document) -> str:
    """Where not even one machine's year costs as little as the training, no traffic is too small."""
    return "any" if model["machines_when_equal"] < 1 else show_demand(model["equal_requests_per_day"]["value"])


def _markdown(table: Table) -> str:
    rules = ["---" if i < table.n_text_columns else "--:" for i in range(len(table.columns))]
    lines = [table.columns, tuple(rules), *table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
