"""When does the second bill overtake the first? Cumulative dollars over time, for each demand, log-log.

Training is flat, because it was paid once; inference rises with every request. Where a line meets the flat
one stands the day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from twobills.report.figures.style import (
    INK,
    MUTED,
    PAPER,
    RULE,
    accent,
    add_axes,
    house_style,
    new_figure,
    to_svg,
)
from twobills.report.words import short, show_days_briefly, show_demand
from twobills.units import DAYS_PER_YEAR, SECONDS_PER_DAY, SECONDS_PER_HOUR, SECONDS_PER_MINUTE, show_usd
from twobills.usage import Job

WIDTH, HEIGHT, LEFT = 480.0, 260.0, 52.0
_REACH = 30.0
"""How far the picture goes beyond the crossings, as a factor, in time and in dollars."""
_TIMES: Mapping[str, float] = {
    "1 ms": 1e-3 / SECONDS_PER_DAY,
    "1 s": 1 / SECONDS_PER_DAY,
    "1 min": SECONDS_PER_MINUTE / SECONDS_PER_DAY,
    "1 h": SECONDS_PER_HOUR / SECONDS_PER_DAY,
    "1 day": 1.0,
    "1 month": DAYS_PER_YEAR / 12,
    "1 year": DAYS_PER_YEAR,
    "10 years": 10 * DAYS_PER_YEAR,
    "100 years": 100 * DAYS_PER_YEAR,
    "10k years": 1e4 * DAYS_PER_YEAR,
    "1M years": 1e6 * DAYS_PER_YEAR,
    "100M years": 1e8 * DAYS_PER_YEAR,
}


def crossover_figure(training_usd: float, life: Sequence[Mapping[str, Any]]) -> str | None:
    """The points of ``life`` against the training bill as SVG; None where nothing ever crosses."""
    points = [p for p in life if p["crossover_days"]]
    if training_usd <= 0 or not points:
        return None
    crossings = [p["crossover_days"] for p in points]
    with house_style():
        figure = new_figure(WIDTH, HEIGHT)
        axes = add_axes(figure, left=LEFT, right=WIDTH - 18, bottom=34, top=HEIGHT - 52)
        axes.set(xscale="log", yscale="log")
        axes.set_xlim(min(crossings) / _REACH**0.5, max(crossings) * _REACH)
        axes.set_ylim(training_usd / _REACH, training_usd * _REACH)
        _scales(axes)
        for point in points:
            _inference_line(axes, point, training_usd)
        axes.axhline(training_usd, color=accent(Job.TRAINING), linewidth=2.0, zorder=3)
        _title(figure, training_usd)
        axes.set_xlabel("time in service")
        days = ", ".join(
            f"{show_demand(p['requests_per_day'])} requests a day: {show_days_briefly(p['crossover_days'])}"
            for p in points
        )
        return to_svg(figure, "crossover", f"Time until inference has cost as much as training. {days}")


def _title(figure: Figure, training_usd: float) -> None:
    """The names of both kinds of line, in their colours, and of the dollar axis."""
    top = 1 - 15 / HEIGHT
    training, inference = accent(Job.TRAINING), accent(Job.INFERENCE)
    words = f"Training, paid once: {show_usd(training_usd)}"
    figure.text(0, top, words, color=training, fontweight="bold", fontsize=10)
    words = "Inference, by requests a day"
    figure.text(1, top, words, ha="right", color=inference, fontweight="bold", fontsize=10)
    figure.text(0, 1 - 40 / HEIGHT, "dollars so far", color=MUTED, fontsize=8.5)


def _scales(axes: Axes) -> None:
    low, high = axes.get_xlim()
    ticks = {days: label for label, days in _TIMES.items() if low <= days <= high}
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda days, _: ticks.get(days, "")))
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda usd, _: short(show_usd(usd))))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.grid(color=RULE, linewidth=0.8)


def _inference_line(axes: Axes, point: Mapping[str, Any], training_usd: float) -> None:
    """A line through its crossing, straight on logarithmic axes, named where it leaves the picture."""
    colour = accent(Job.INFERENCE)
    start, end = axes.get_xlim()
    crossing = point["crossover_days"]
    axes.plot([start, end], [training_usd * days / crossing for days in (start, end)], color=colour, linewidth=1.3)
    axes.annotate(
        show_demand(point["requests_per_day"]),
        (crossing * _REACH, training_usd * _REACH),
        (0, 4),
        textcoords="offset points",
        ha="center",
        color=colour,
        fontweight="bold",
        annotation_clip=False,
    )
    axes.plot([crossing], [training_usd], "o", color=colour, markeredgecolor=PAPER, markersize=6.5, zorder=4)
    axes.annotate(
        show_days_briefly(crossing),
        (crossing, training_usd),
        (4, -12),
        textcoords="offset points",
        fontsize=8,
        color=INK,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.0},
        zorder=5,
    )
