"""What a model of images draws: for each class a few held-out images, and beside them what the model drew for it.

Every cell is an image's own pixels, so the figure is as sharp as the screen; an answer that was no whole image is an
empty cell. Grey images keep their greys, dark or light page alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twobills.report.figures.style import MUTED, accent, add_axes, house_style, new_figure, title, to_svg
from twobills.report.picture import sheet
from twobills.usage import Job

WIDTH = 640.0
TOP = 46.0
MOST_CELL = 44.0
"""Points: small images are not blown up further."""
_GAP = 0.08
"""Between cells, in cells."""
_APART = 0.5
"""Between what is real and what is drawn, in cells."""
_LONGEST_NAME = 14


def pictures_figure(pictures: Mapping[str, Any] | None) -> str | None:
    """A grid of real and drawn images, a row for each class, as SVG; None if there are none."""
    if not pictures or not pictures["rows"]:
        return None
    rows = pictures["rows"]
    n_real, n_drawn = (max(len(row[key]) for row in rows) for key in ("real", "drawn"))
    height, width, _ = pictures["shape"]
    left = 8 + 5.2 * max(len(_short(row["class"])) for row in rows)
    n_columns = n_real + n_drawn
    cell = min(MOST_CELL, (WIDTH - left) / (n_columns * (1 + _GAP) + _APART))
    cell_height = cell * height / width
    tall = TOP + len(rows) * (cell_height + _GAP * cell)
    with house_style():
        figure = new_figure(WIDTH, tall)
        right = left + cell * (n_columns * (1 + _GAP) + _APART)
        axes = add_axes(figure, left=left, right=right, bottom=0, top=tall - TOP)
        axes.set_xlim(0, (right - left) / cell)
        axes.set_ylim((tall - TOP) / cell, 0)
        axes.set_xticks([])
        down = cell_height / cell
        axes.set_yticks([i * (down + _GAP) + down / 2 for i in range(len(rows))], [_short(r["class"]) for r in rows])
        for key, start in (("real", 0.0), ("drawn", n_real * (1 + _GAP) + _APART)):
            for i, row in enumerate(rows):
                for j, image in enumerate(row[key]):
                    _place(axes, image, pictures, at=(start + j * (1 + _GAP), i * (down + _GAP)), down=down)
        _words(figure, left, left + cell * (n_real * (1 + _GAP) + _APART), tall)
        spoken = f"{n_drawn} drawn images for each of {len(rows)} classes, beside {n_real} real ones of each"
        return to_svg(figure, "pictures", spoken)


def _words(figure: Figure, real: float, drawn: float, tall: float) -> None:
    title(figure, "What it draws", accent(Job.INFERENCE))
    for left, words in ((real, "held out"), (drawn, "drawn by the model when asked for the class")):
        figure.text(left / WIDTH, 1 - (TOP - 7) / tall, words, fontsize=8.5, color=MUTED)


def _place(
    axes: Axes, image: Sequence[Any] | None, pictures: Mapping[str, Any], *, at: tuple[float, float], down: float
) -> None:
    if image is None:
        return
    extent = (at[0], at[0] + 1, at[1] + down, at[1])
    axes.imshow(sheet(image, pictures["n_levels"]), extent=extent, interpolation="none", aspect="auto")
    axes.autoscale(False)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1].rstrip() + "…"
