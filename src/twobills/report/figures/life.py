"""Both bills so far on every day of a life, each with its 5-95 % band, and the day on which they cross.

Dollars and time are both linear: a life is short enough, and a straight line then means the same cost every day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

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
from twobills.report.words import short, show_days, show_days_briefly
from twobills.units import DAYS_PER_YEAR, show_usd
from twobills.usage import Job

WIDTH, HEIGHT, LEFT, RIGHT = 480.0, 270.0, 46.0, 88.0
_SHORT_LIFE_YEARS = 2.0
"""Shorter ones are told in months."""
_CURVES: Mapping[Job, str] = {Job.TRAINING: "training_usd", Job.INFERENCE: "inference_usd"}


def life_figure(life: Mapping[str, Any]) -> str:
    """The ``life`` of a plan's document as SVG."""
    curves = life["curves"]
    days = curves["days"]
    high = 1.08 * max(max(curves[name]["p95"]) for name in _CURVES.values()) or 1.0
    with house_style():
        figure = new_figure(WIDTH, HEIGHT)
        axes = add_axes(figure, left=LEFT, right=WIDTH - RIGHT, bottom=36, top=HEIGHT - 34)
        axes.set_xlim(0, days[-1])
        axes.set_ylim(0, high)
        _scales(axes, days[-1])
        for job, name in _CURVES.items():
            _curve(axes, job, days, curves[name])
        _names(axes, curves, high)
        _crossing(axes, life)
        figure.text(0, 1 - 15 / HEIGHT, "Both bills so far", color=INK, fontweight="bold", fontsize=11)
        return to_svg(figure, "life", _spoken(life))


def tornado_figure(life: Mapping[str, Any], *, n_shown: int = 10) -> str | None:
    """What both bills come to at each end of the assumptions that move them most; None where nothing moves them."""
    swings = life["tornado"][:n_shown]
    if not swings:
        return None
    expected = life["total_usd"]["value"]
    ends = [swing[end]["total_usd"] for swing in swings for end in ("low", "high")]
    height = 60.0 + 24.0 * len(swings)
    with house_style():
        figure = new_figure(WIDTH, height)
        axes = add_axes(figure, left=150, right=WIDTH - 8, bottom=26, top=height - 30)
        span = max(ends) - min(min(ends), expected) or 1.0
        axes.set_xlim(min(*ends, expected) - 0.16 * span, max(*ends, expected) + 0.16 * span)
        axes.set_ylim(len(swings) - 0.4, -0.6)
        axes.set_yticks(range(len(swings)), [swing["name"] for swing in swings])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda usd, _: short(show_usd(usd)) if usd >= 0 else ""))
        axes.grid(axis="x", color=RULE, linewidth=0.8)
        for place, swing in enumerate(swings):
            _bar(axes, place, swing)
        axes.axvline(expected, color=INK, linewidth=1.0)
        figure.text(
            0, 1 - 15 / height, "Both bills over the life, at each end", color=INK, fontweight="bold", fontsize=11
        )
        said = "; ".join(f"{s['name']} {show_usd(s['swing_usd'])}" for s in swings)
        return to_svg(figure, "tornado", f"What moves both bills, by how much between its ends: {said}")


def _curve(axes: Axes, job: Job, days: Sequence[float], curve: Mapping[str, Sequence[float]]) -> None:
    colour = accent(job)
    axes.fill_between(days, curve["p5"], curve["p95"], color=colour, alpha=0.16, linewidth=0)
    axes.plot(days, curve["value"], color=colour, linewidth=2.0)


def _names(axes: Axes, curves: Mapping[str, Any], high: float) -> None:
    """Each curve's name and sum at its end, apart where the ends are close."""
    ends = {job: curves[name]["value"][-1] / high for job, name in _CURVES.items()}
    low, top = sorted(ends, key=lambda job: ends[job])
    gap = 0.15
    middle = (ends[low] + ends[top]) / 2
    if ends[top] - ends[low] < gap:
        ends[low], ends[top] = middle - gap / 2, middle + gap / 2
    lift = max(0.05 - ends[low], 0.0)
    for job, place in ends.items():
        axes.annotate(
            f"{job.value.capitalize()}\n{show_usd(curves[_CURVES[job]]['value'][-1])}",
            (1, place + lift),
            (6, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            color=accent(job),
            fontweight="bold",
            annotation_clip=False,
        )


def _crossing(axes: Axes, life: Mapping[str, Any]) -> None:
    """A dot and the time where the curves cross within the life."""
    if not life["crosses_within_life"] or not life["crossover_days"]["value"]:
        return
    days, curves = life["crossover_days"]["value"], life["curves"]
    usd = _at(days, curves["days"], curves["inference_usd"]["value"])
    axes.plot([days], [usd], "o", color=INK, markeredgecolor=PAPER, markersize=7, zorder=5)
    left = days < 0.35 * curves["days"][-1]
    axes.annotate(
        f"cross after {show_days_briefly(days)}",
        (days, usd),
        (-4 if left else -8, 14),
        textcoords="offset points",
        ha="left" if left else "right",
        color=INK,
        fontsize=8.5,
        zorder=6,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.0, "alpha": 0.8},
    )


def _bar(axes: Axes, place: int, swing: Mapping[str, Any]) -> None:
    low, high = swing["low"]["total_usd"], swing["high"]["total_usd"]
    axes.barh(place, high - low, left=low, height=0.56, color=accent(Job.INFERENCE), alpha=0.55, linewidth=0)
    for end in ("low", "high"):
        usd = swing[end]["total_usd"]
        right = usd == max(low, high)
        axes.annotate(
            swing[end]["label"],
            (usd, place),
            (4 if right else -4, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=7.5,
            color=MUTED,
        )


def _scales(axes: Axes, end: float) -> None:
    months = end <= _SHORT_LIFE_YEARS * DAYS_PER_YEAR + 1
    unit = DAYS_PER_YEAR / 12 if months else DAYS_PER_YEAR
    axes.xaxis.set_major_locator(_Every(unit))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda days, _: f"{days / unit:.0f}"))
    axes.set_xlabel("months in service" if months else "years in service")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda usd, _: short(show_usd(usd)) if usd else "0"))
    axes.grid(axis="y", color=RULE, linewidth=0.8)


class _Every(MaxNLocator):
    """Round numbers of a unit of days."""

    def __init__(self, unit: float) -> None:
        super().__init__(nbins=8, steps=[1, 2, 3, 5, 6, 10], integer=True)
        self._unit = unit

    def tick_values(self, vmin: float, vmax: float) -> Any:
        return [tick * self._unit for tick in super().tick_values(vmin / self._unit, vmax / self._unit)]


def _at(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    after = next(i for i, each in enumerate(xs) if each >= x)
    if after == 0:
        return ys[0]
    part = (x - xs[after - 1]) / (xs[after] - xs[after - 1])
    return ys[after - 1] + part * (ys[after] - ys[after - 1])


def _spoken(life: Mapping[str, Any]) -> str:
    training, inference = (show_usd(life[name]["value"]) for name in _CURVES.values())
    days = life["crossover_days"]["value"]
    when = "do not cross" if days is None else f"cross after {show_days(days)}"
    return f"Both bills over {life['years']:g} years: training {training}, inference {inference}; they {when}"
