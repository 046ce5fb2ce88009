"""What did it cost, and what was it planned to cost? A bill's plan and meter as two bars, stacked by phase.

The whisker is the plan's 5-95 % interval. The two bills differ by orders of magnitude, so each panel has its
own dollar scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from twobills.report.figures.style import (
    INK,
    LEFT,
    MUTED,
    PANEL_WIDTH,
    POINTS_PER_INCH,
    accent,
    add_axes,
    dollars_along_x,
    house_style,
    new_figure,
    solid_bar,
    title,
    to_svg,
)
from twobills.report.words import PHASE_WORDS
from twobills.units import show_usd
from twobills.usage import PHASES, Job, Phase

HEIGHT = 158.0
_STRENGTH: Mapping[Phase, float] = {
    Phase.PRETRAIN: 1.0,
    Phase.FINETUNE: 0.8,
    Phase.DISTILL: 0.6,
    Phase.EVALUATE: 0.45,
    Phase.LOST: 0.22,
    Phase.PREFILL: 0.6,
    Phase.DECODE: 1.0,
    Phase.DRAFT: 0.42,
    Phase.IDLE: 0.22,
}
"""Opacity of the bill's colour, by phase: the wanted work strong, waste pale."""


def bill_figure(bill: Mapping[str, Any]) -> str:
    """One bill of the run's document (``bills.training`` or ``bills.inference``) as SVG."""
    with house_style():
        figure = new_figure(PANEL_WIDTH, HEIGHT)
        _draw(figure, bill, offset=0.0)
        job = bill["measured"]["job"]
        return to_svg(figure, f"bill-{job}", f"The {job} bill by phase: {_spoken(bill)}")


def both_bills_figure(bills: Mapping[str, Any]) -> str:
    """Both bills of the run's document side by side in one SVG: the picture of the two bills."""
    with house_style():
        figure = new_figure(2 * PANEL_WIDTH + 24, HEIGHT)
        for i, job in enumerate(Job):
            _draw(figure, bills[job.value], offset=i * (PANEL_WIDTH + 24))
        spoken = "; ".join(f"{job} {_spoken(bills[job.value])}" for job in Job)
        return to_svg(figure, "both-bills", f"The two bills: {spoken}")


def _draw(figure: Figure, bill: Mapping[str, Any], offset: float) -> None:
    measured, predicted, interval = bill["measured"], bill["predicted"], bill["predicted_interval"]
    axes = add_axes(figure, left=offset + LEFT, right=offset + PANEL_WIDTH - 8, bottom=54, top=HEIGHT - 30)
    shown = {Phase(name) for b in (measured, predicted) if b for name in b["phases"]}
    rows = [("planned", predicted, interval), ("measured", measured, None)]
    ends = [b["total_usd"] for _, b, _ in rows if b] + ([interval["p95"]] if interval else [])
    high = 1.45 * max(ends) or 1.0
    dollars_along_x(axes, low=0.0, high=high)
    axes.set_ylim(1.55, -0.55)
    axes.set_yticks([0, 1], [label for label, _, _ in rows])
    for place, (_, body, whisker) in enumerate(rows):
        if body is None:
            axes.annotate("no figure", (0, place), (6, 0), textcoords="offset points", va="center", color=MUTED)
        else:
            _stack(axes, place, body, whisker, accent(measured["job"]))
    job = measured["job"]
    title(figure, job.capitalize(), accent(job), left=offset)
    _legend(figure, job, [p for p in PHASES[Job(job)] if p in shown], left=offset)


def _stack(axes: Axes, place: int, bill: Mapping[str, Any], interval: Mapping[str, float] | None, colour: str) -> None:
    left = 0.0
    for name, line in bill["phases"].items():
        end = left + line["usd"]
        solid_bar(axes, place, left, end, height=0.58, colour=colour, strength=_STRENGTH[Phase(name)])
        left = end
    end = left
    if interval:
        end = max(left, interval["p95"])
        axes.plot([interval["p5"], interval["p95"]], [place, place], color=INK, linewidth=1.1)
        axes.plot(
            [interval["p5"], interval["p95"]],
            [place, place],
            "|",
            color=INK,
            markersize=7,
            markeredgewidth=1.1,
        )
    axes.annotate(
        show_usd(bill["total_usd"]),
        (end, place),
        (6, 0),
        textcoords="offset points",
        va="center",
        fontweight="bold",
    )


def _legend(figure: Figure, job: str, phases: list[Phase], left: float) -> None:
    width, height = figure.get_size_inches() * POINTS_PER_INCH
    figure.legend(
        handles=[Patch(color=accent(job), alpha=_STRENGTH[p], linewidth=0) for p in phases],
        labels=[PHASE_WORDS[p] for p in phases],
        loc="upper left",
        bbox_to_anchor=(left / width, 30 / height),
        ncols=3,
        frameon=False,
        fontsize=8,
        labelcolor=MUTED,
        borderpad=0,
        borderaxespad=0,
        handlelength=0.9,
        handleheight=0.9,
        handletextpad=0.5,
        columnspacing=1.4,
        labelspacing=0.35,
    )


def _spoken(bill: Mapping[str, Any]) -> str:
    measured, predicted = bill["measured"], bill["predicted"]
    planned = show_usd(predicted["total_usd"]) if predicted else "nothing known"
    return f"planned {planned}, measured {show_usd(measured['total_usd'])}"
