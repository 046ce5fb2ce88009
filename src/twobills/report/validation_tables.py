"""How far forecasts missed what others measured: one sentence and two tables."""

from __future__ import annotations

from twobills.report.tables import Document, Table
from twobills.units import significant

WORST = 10
_UNITS = {
    "tokens_per_s_per_chip": "tokens/s per chip",
    "chip_hours": "chip-hours",
    "each row's own": "throughput and latency",
}


def validation_sentence(found: Document) -> str:
    """The whole table in words."""
    n, unit = found["n_predicted"], _UNITS[found["unit"]]
    way = "high" if found["bias"] > 0 else "low"
    return (
        f"{n} of {found['n_eligible']} measured rows that say enough are forecast, from their inputs alone: half of "
        f"the forecasts of {unit} are within {found['median_abs_rel_error']:.1%} of what was measured, nine in ten "
        f"within {found['p90_abs_rel_error']:.1%}; the middle one is {abs(found['bias']):.1%} too {way}, and the "
        f"5-95 % interval holds {found['coverage_90']:.0%} of the measurements."
    )


def sources_table(found: Document) -> Table:
    """The errors of each source."""
    rows = [
        (
            each["source"],
            str(each["n"]),
            f"{each['median_abs_rel_error']:.1%}",
            f"{each['p90_abs_rel_error']:.1%}",
            f"{each['bias']:+.1%}",
            f"{each['coverage_90']:.0%}",
        )
        for each in found["by_source"]
    ]
    return Table("By source", ("Source", "Rows", "Median", "90 %", "Bias", "Covered"), rows)


def worst_table(found: Document) -> Table:
    """The rows that are missed most."""
    rows = sorted(found["rows"], key=lambda row: -abs(row["rel_error"]))[:WORST]
    cells = [
        (
            row["model"],
            f"{row['n_chips']} x {row['chip']}",
            row["plan"],
            significant(row["forecast"]["value"]),
            significant(row["measured"]),
            f"{row['rel_error']:+.0%}",
        )
        for row in rows
    ]
    columns = ("Model", "Chips", "Plan", "Forecast", "Measured", "Error")
    return Table(f"The {len(cells)} rows missed most, in {_UNITS[found['unit']]}", columns, cells, 3)


def within_table(found: Document) -> Table:
    """Of whole runs: how many forecasts are within a factor."""
    rows = [
        (
            name.replace("_", " "),
            str(each["n"]),
            *(f"{share:.0%}" for key, share in each.items() if key.startswith("share")),
        )
        for name, each in found["within"].items()
        if each["n"]
    ]
    return Table("Whole runs", ("Rows", "Count", "Within 1.5 x", "Within 2.5 x"), rows)


def skipped_lines(found: Document) -> list[str]:
    """Why rows are not forecast, each reason once."""
    reasons: dict[str, int] = {}
    for row in found["skipped"]:
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    return [f"Not forecast, {n}: {reason}." for reason, n in reasons.items()]
