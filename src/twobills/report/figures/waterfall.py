"""Why did the bill differ from its plan? From planned to measured, one step per cause: work, speed, price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from matplotlib.axes import Axes

from twobills.report.figures.style import (
    LEFT,
    MUTED,
    PANEL_WIDTH,
    accent,
    add_axes,
    dollars_along_x,
    house_style,
    new_figure,
    solid_bar,
    title,
    to_svg,
)
from twobills.report.words import signed_usd
from twobills.units import show_usd

HEIGHT = 178.0
CAUSES = ("work", "speed", "price")


class Step(NamedTuple):
    """One row: a bar between two amounts, USD, and the words beside it."""

    name: str
    start_usd: float
    end_usd: float
    amount: str
    is_total: bool


def steps(gaps: Mapping[str, float]) -> list[Step]:
    """The five rows of a reconciliation's document, in order."""
    at = gaps["planned_usd"]
    rows = [Step("planned", 0.0, at, show_usd(at), True)]
    for cause in CAUSES:
        change = gaps[f"{cause}_usd"]
        rows.append(Step(f"{cause} gap", at, at + change, signed_usd(change, beside=gaps["measured_usd"]), False))
        at += change
    return [*rows, Step("measured", 0.0, gaps["measured_usd"], show_usd(gaps["measured_usd"]), True)]


def waterfall_figure(job: str, gaps: Mapping[str, float]) -> str:
    """One bill's gaps (``bills.*.gaps`` of the run's document) as SVG."""
    rows = steps(gaps)
    with house_style():
        figure = new_figure(PANEL_WIDTH, HEIGHT)
        axes = add_axes(figure, left=LEFT, right=PANEL_WIDTH - 8, bottom=22, top=HEIGHT - 28)
        edges = [edge for row in rows for edge in (row.start_usd, row.end_usd)]
        span = (max(edges) - min(edges)) or 1.0
        low = min(edges) - (0.05 * span if min(edges) < 0 else 0.0)
        dollars_along_x(axes, low=low, high=max(edges) + 0.45 * span)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        for place, row in enumerate(rows):
            _bar(axes, place, row, accent(job))
        _connect(axes, rows)
        title(figure, job.capitalize(), accent(job))
        spoken = ", ".join(f"{row.name} {row.amount}" for row in rows)
        return to_svg(figure, f"gaps-{job}", f"From plan to meter, {job}: {spoken}")


def _bar(axes: Axes, place: int, row: Step, colour: str) -> None:
    strength = 1.0 if row.is_total else 0.5
    solid_bar(axes, place, row.start_usd, row.end_usd, height=0.56, colour=colour, strength=strength)
    weight = "bold" if row.is_total else "normal"
    end = max(row.start_usd, row.end_usd)
    axes.annotate(row.amount, (end, place), (5, 0), textcoords="offset points", va="center", fontweight=weight)


def _connect(axes: Axes, rows: list[Step]) -> None:
    for place, row in enumerate(rows[:-1]):
        axes.plot([row.end_usd, row.end_usd], [place - 0.28, place + 1.28], color=MUTED, linewidth=0.7)
