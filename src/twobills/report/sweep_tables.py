"""The tables and sentences of ``laws sweep``: the bill expected, the cells, prediction beside result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twobills.report.tables import Document, Table
from twobills.units import show_count, show_seconds, show_usd, significant

NONE = "–"


def expected_sentence(expected: Document) -> str:
    """What the sweep should cost, before extensions."""
    total = expected["total"]
    wall, together = show_seconds(round(total["wall_s"])), show_seconds(round(total["chip_s"]))
    return (
        f"{total['n_cells']} cells, {expected['n_slots']} at a time, should take {wall} ({together} of all cells "
        f"together) and {show_usd(total['total_usd'])}; a curve without a minimum gets more sizes."
    )


def expected_table(expected: Document) -> Table:
    """The expected bill by budget."""
    rows = [
        (
            f"{each['budget_flops']:.3g}",
            str(each["n_cells"]),
            f"{each['compute_flops']:.3g}",
            show_seconds(round(each["chip_s"])),
            show_usd(each["total_usd"]),
        )
        for each in [*expected["budgets"]]
    ]
    total = expected["total"]
    rows.append(
        (
            "all",
            str(total["n_cells"]),
            f"{total['compute_flops']:.3g}",
            show_seconds(round(total["chip_s"])),
            show_usd(total["total_usd"]),
        )
    )
    columns = ("Budget, FLOPs", "Cells", "Training FLOPs", "Seconds of a cell's place", "Dollars")
    return Table("Expected bill", columns, rows, has_total=True)


def cell_line(row: Document) -> str:
    """One finished cell, or one that diverged and why."""
    cell, took = f"{row['budget_flops']:.3g} FLOPs, {_shape(row)}", show_seconds(round(row["chip_s"]))
    if row["loss"] is None:
        return f"{cell}: diverged ({row['reason']}), {took}, {show_usd(row['usd'])}; it is left out of the fit"
    return (
        f"{cell}: {show_count(row['n_params'])} parameters, {show_count(row['n_tokens'])} tokens, "
        f"loss {row['loss']:.4f}, {took}, {show_usd(row['usd'])}"
    )


def cells_table(document: Document) -> Table:
    """All cells; why one has no loss, where any has none."""
    diverged = any(row["loss"] is None for row in document["cells"])
    rows = [
        (
            f"{row['budget_flops']:.3g}",
            _shape(row),
            show_count(row["n_params"]),
            show_count(row["n_tokens"]),
            _or_none(row["loss"], _loss),
            _or_none(row["bits_per_byte"], _loss),
            _or_none(row["epochs"], significant),
            show_seconds(round(row["chip_s"])),
            show_usd(row["usd"]),
            *((row["reason"] or "",) if diverged else ()),
        )
        for row in document["cells"]
    ]
    columns = ("Budget", "Shape", "Parameters", "Tokens", "Loss", "Bits/byte", "Epochs", "Took", "Cost")
    shown = (*columns, "Diverged") if diverged else columns
    return Table("Cells (loss: held-out nats per token)", shown, rows, n_text_columns=2)


def curves_table(document: Document) -> Table:
    """The minimum of each budget."""
    rows = []
    for curve in document["curves"]:
        best = curve["parabola"]
        shown = (show_count(best["n_params"]), show_count(best["n_tokens"]), f"{best['loss']:.4f}") if best else None
        rows.append((f"{curve['budget_flops']:.3g}", curve["minimum"], *(shown or (NONE, NONE, NONE))))
    return Table("Minimum of each curve", ("Budget", "Minimum", "Parameters", "Tokens", "Loss"), rows, n_text_columns=2)


def prediction_sentence(prediction: Document) -> str:
    """What the smaller budgets say of the largest, before it is run."""
    if prediction["surface"] is None:
        return f"Nothing was predicted of {prediction['budget_flops']:.3g} FLOPs: {prediction['reason']}"
    surface = prediction["surface"]
    return (
        f"Predicted of {prediction['budget_flops']:.3g} FLOPs from {prediction['n_runs']} runs of smaller budgets, "
        f"before any was run there: best size {_shown(surface['n_params'], show_count)}, "
        f"loss {_shown(surface['loss'], _loss)}."
    )


def prediction_table(document: Document) -> Table | None:
    """Prediction beside result; None where nothing was predicted."""
    prediction, result = document["prediction"], document["result"]
    if not prediction or prediction["surface"] is None:
        return None
    surface, parabolas, seen = prediction["surface"], prediction["parabolas"] or {}, result["parabola"] or {}
    rows = []
    for label, key, show in (
        ("Parameters", "n_params", show_count),
        ("Tokens", "n_tokens", show_count),
        ("Loss", "loss", _loss),
    ):
        cells = (surface[key]["value"], surface[key]["p5"], surface[key]["p95"], parabolas.get(key), seen.get(key))
        shown = [_or_none(value, show) for value in (*cells, (result["lowest_run"] or {}).get(key))]
        rows.append((label, *shown))
    columns = ("What", "Predicted", "5 %", "95 %", "By parabolas", "Found, parabola", "Lowest run")
    return Table(f"Best at {prediction['budget_flops']:.3g} FLOPs: predicted, then run", columns, rows)


def _shown(figure: Document, show: Any) -> str:
    words = str(show(figure["value"]))
    return words if figure["p5"] is None else f"{words} ({show(figure['p5'])} to {show(figure['p95'])})"


def _shape(row: Document) -> str:
    return f"d{row['d_model']}-l{row['n_layers']}"


def _or_none(value: float | None, show: Callable[[float], str]) -> str:
    return NONE if value is None else show(value)


def _loss(value: float) -> str:
    return f"{value:.4f}"
