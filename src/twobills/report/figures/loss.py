"""How well did it learn? The training loss over tokens seen, and held-out quality against two compressors.

They are two figures because they are two quantities: training loss is nats per token of this tokenizer,
held-out quality is bits per byte of text or per pixel, which alone can be compared with compressors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from twobills.report.figures.style import (
    LEFT,
    MUTED,
    PANEL_WIDTH,
    RULE,
    accent,
    add_axes,
    house_style,
    new_figure,
    solid_bar,
    title,
    to_svg,
)
from twobills.report.held_out import held_out
from twobills.report.words import short
from twobills.units import show_count, significant
from twobills.usage import Job

HEIGHT = 170.0


def loss_figure(curve: Sequence[Mapping[str, Any]]) -> str | None:
    """Training loss, nats per token, over tokens seen, as SVG; None for fewer than two points that are numbers."""
    points = [(p["n_tokens"], p["loss"]) for p in curve if p["loss"] is not None and math.isfinite(p["loss"])]
    if len(points) < 2:
        return None
    tokens, losses = zip(*points, strict=True)
    colour = accent(Job.TRAINING)
    with house_style():
        figure = new_figure(PANEL_WIDTH, HEIGHT)
        axes = add_axes(figure, left=22, right=PANEL_WIDTH - 36, bottom=36, top=HEIGHT - 28)
        axes.plot(tokens, losses, color=colour, linewidth=1.4)
        axes.plot(tokens[-1:], losses[-1:], "o", color=colour, markersize=4)
        _name_value(axes, f"{losses[-1]:.2f}", (tokens[-1], losses[-1]), is_ours=True)
        axes.set_xlim(0, tokens[-1])
        axes.set_ylim(0, 1.05 * max(losses))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: short(show_count(n))))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        axes.set_xlabel("tokens seen")
        title(figure, "Training loss", colour)
        figure.text(1.0, 1 - 15 / HEIGHT, "nats per token", ha="right", fontsize=8.5, color=MUTED)
        spoken = f"Training loss from {losses[0]:.2f} to {losses[-1]:.2f} nats per token"
        return to_svg(figure, "loss", spoken)


def quality_figure(quality: Mapping[str, Any]) -> str | None:
    """Held-out bits per byte or pixel of the model and of compressors as SVG; None if the model's is not there."""
    found = held_out(quality)
    if found.bits is None:
        return None
    rows = [("this model", found.bits)]
    rows += [(other.name, other.bits) for other in found.others if other.bits is not None]
    colour = accent(Job.TRAINING)
    with house_style():
        figure = new_figure(PANEL_WIDTH, HEIGHT)
        axes = add_axes(figure, left=LEFT, right=PANEL_WIDTH - 8, bottom=36, top=HEIGHT - 28)
        axes.set_xlim(0, 1.2 * max(bits for _, bits in rows) or 1.0)
        axes.set_ylim(max(2, len(rows) - 1) + 0.55, -0.55)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.grid(axis="x", color=RULE, linewidth=0.8)
        for place, (_, bits) in enumerate(rows):
            fill, strength = (MUTED, 0.45) if place else (colour, 1.0)
            solid_bar(axes, place, 0.0, bits, height=0.56, colour=fill, strength=strength)
            _name_value(axes, significant(bits), (bits, place), is_ours=not place)
        axes.set_xlabel(f"bits per {found.unit}, fewer is better")
        title(figure, f"Held-out {found.noun}", colour)
        spoken = ", ".join(f"{name} {significant(bits)}" for name, bits in rows)
        return to_svg(figure, "quality", f"Bits per {found.unit} of held-out {found.noun}: {spoken}")


def _name_value(axes: Axes, words: str, at: tuple[float, float], *, is_ours: bool) -> None:
    weight = "bold" if is_ours else "normal"
    axes.annotate(words, at, (6, 0), textcoords="offset points", va="center", fontweight=weight)
