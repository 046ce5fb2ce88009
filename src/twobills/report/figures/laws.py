"""Three pictures of a fitted law: curves of equal compute and their minima; loss contours and the efficient frontier;
what the law misses at each run."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from twobills.laws.approaches import IsoFlop
from twobills.laws.forms import Law
from twobills.laws.optimum import optimum
from twobills.laws.runs import Array, Runs
from twobills.report.figures.style import (
    INK,
    MUTED,
    PAPER,
    RULE,
    accent,
    add_axes,
    house_style,
    new_figure,
    standalone,
    to_svg,
)
from twobills.report.words import short
from twobills.units import show_count
from twobills.usage import Job

WIDTH, HEIGHT, LEFT = 480.0, 320.0, 52.0
PIXELS_PER_POINT = 2.0
_N_CONTOURS, _N_GRID = 9, 80


def isoflop_figure(curves: Sequence[IsoFlop], kind: str) -> bytes | None:
    """Loss over size, a parabola for each budget, its minimum marked; None without any. ``kind`` is .png or .svg."""
    if not curves:
        return None
    with house_style():
        figure, axes = _panel("Loss over size, at equal compute", "parameters")
        shades = np.linspace(0.35, 1.0, len(curves))
        for curve, shade in zip(curves, shades, strict=True):
            axes.plot(curve.n_params, curve.loss, "o", color=accent(Job.TRAINING), alpha=shade, markersize=3)
            _draw_parabola(axes, curve, float(shade))
        _count_axis(axes, "x")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.2g}"))
        least, most = show_flop(curves[0].compute_flops), show_flop(curves[-1].compute_flops)
        figure.text(
            1, 1 - 15 / HEIGHT, f"{least} to {most} FLOPs, pale to strong", ha="right", fontsize=8.5, color=MUTED
        )
        n_inside = sum(curve.side == "within" for curve in curves)
        return _written(figure, "isoflops", f"{n_inside} of {len(curves)} budgets have their minimum within", kind)


def contour_figure(runs: Runs, law: Law, kind: str) -> bytes:
    """Loss contours over parameters and FLOPs, the runs, and the line of the best size."""
    with house_style():
        figure, axes = _panel("Loss by the law, and the best size", "training FLOPs")
        budgets = np.geomspace(runs.compute_flops.min() / 2, runs.compute_flops.max() * 2, _N_GRID)
        n_params = np.geomspace(runs.n_params.min() / 2, runs.n_params.max() * 2, _N_GRID)
        tokens = budgets[None, :] / (6 * n_params[:, None])
        losses = law.E + (law.A / n_params[:, None] ** law.alpha + law.B / tokens**law.beta) ** law.gamma
        levels = np.geomspace(runs.loss.min(), runs.loss.max(), _N_CONTOURS)
        drawn = axes.contour(budgets, n_params, losses, levels=levels, colors=MUTED, linewidths=0.8)
        axes.clabel(drawn, fmt="%.2f", fontsize=7.5)
        axes.plot(runs.compute_flops, runs.n_params, "o", color=accent(Job.TRAINING), markersize=2.5, alpha=0.7)
        best = [optimum(law, budget).n_params for budget in budgets.tolist()]
        axes.plot(budgets, best, color=accent(Job.INFERENCE), linewidth=1.8)
        axes.set(xscale="log", yscale="log")
        axes.set_xlim(budgets[0], budgets[-1])
        axes.set_ylim(n_params[0], n_params[-1])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda c, _: show_flop(c)))
        axes.xaxis.set_minor_locator(NullLocator())
        _count_axis(axes, "y")
        figure.text(1, 1 - 15 / HEIGHT, "parameters; the line is the best size", ha="right", fontsize=8.5, color=MUTED)
        return _written(figure, "contours", f"Best size grows with compute to the power {law.a:.3f}", kind)


def residual_figure(runs: Runs, residuals: Array, kind: str) -> bytes:
    """How far the law is from each run, in per cent of its loss, over FLOPs."""
    percent = 100 * residuals
    with house_style():
        figure, axes = _panel("What the law misses", "training FLOPs")
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.plot(runs.compute_flops, percent, "o", color=accent(Job.TRAINING), markersize=3, alpha=0.7)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda c, _: show_flop(c)))
        axes.xaxis.set_minor_locator(NullLocator())
        figure.text(
            1, 1 - 15 / HEIGHT, "% of the run's loss, law above or below", ha="right", fontsize=8.5, color=MUTED
        )
        worst = float(np.abs(percent).max())
        return _written(figure, "residuals", f"The law misses no run by more than {worst:.2g} %", kind)


def show_flop(flops: float) -> str:
    """FLOPs as 1e20 or 5.8e20."""
    mantissa, exponent = f"{flops:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _panel(title: str, x_label: str) -> tuple[Figure, Axes]:
    figure = new_figure(WIDTH, HEIGHT)
    axes = add_axes(figure, left=LEFT, right=WIDTH - 14, bottom=40, top=HEIGHT - 30)
    axes.grid(color=RULE, linewidth=0.8)
    axes.set_xlabel(x_label)
    figure.text(0, 1 - 15 / HEIGHT, title, color=INK, fontweight="bold", fontsize=10)
    return figure, axes


def _draw_parabola(axes: Axes, curve: IsoFlop, shade: float) -> None:
    if curve.parabola is None:
        return
    x = np.linspace(np.log(curve.n_params.min()), np.log(curve.n_params.max()), 60)
    p0, p1, p2 = curve.parabola
    axes.plot(np.exp(x), np.exp(p0 + p1 * x + p2 * x**2), color=accent(Job.TRAINING), linewidth=1.0, alpha=shade)
    if curve.best_params and curve.best_loss:
        colour = accent(Job.INFERENCE)
        axes.plot(
            [curve.best_params], [curve.best_loss], "o", color=colour, markeredgecolor=PAPER, markersize=6, zorder=4
        )


def _count_axis(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 3.0)))
    axis.set_major_formatter(FuncFormatter(lambda n, _: short(show_count(n))))
    axis.set_minor_locator(NullLocator())


def _written(figure: Figure, name: str, description: str, kind: str) -> bytes:
    if kind == ".svg":
        return standalone(to_svg(figure, name, description)).encode()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=72 * PIXELS_PER_POINT, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
