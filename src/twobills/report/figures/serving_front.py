"""How fast for each user against how much from each chip, and for how many dollars: the fronts of a search for serving.

Two panels over the same speed per user: tokens per second of one chip, and dollars for a million answer tokens. A line
is one kind of chip; full where instances read their own prompts, dashed where a pool of its own reads them. What lies
left of the upright rule is too slow for the target; the dot is the way that was ranked first.
"""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from twobills.report.figures.style import INK, MUTED, RULE, add_axes, house_style, new_figure, standalone, to_svg
from twobills.report.tables import Document
from twobills.report.words import short
from twobills.units import show_count, show_usd

WIDTH, HEIGHT = 720.0, 300.0
COLOURS = ("#1f6d8c", "#b5532a", "#5b7f2b", "#7a4f9a", "#9a7b16", "#3f5fa8")
"""Kinds of chips, in order; the first two are the house's."""
PIXELS_PER_POINT = 2.0
_PANELS = (
    ("tokens_per_s_per_chip", "Tokens a second from each chip"),
    ("usd_per_mtok", "Dollars per million answer tokens"),
)


def serving_front(found: Document, kind: str) -> bytes:
    """The picture of a search's document; ``kind`` is .png or .svg."""
    with house_style():
        figure = new_figure(WIDTH, HEIGHT)
        for i, (key, title) in enumerate(_PANELS):
            axes = add_axes(figure, left=52 + i * WIDTH / 2, right=(i + 1) * WIDTH / 2 - 14, bottom=62, top=HEIGHT - 34)
            _draw(axes, found, key)
            figure.text((i * WIDTH / 2 + 6) / WIDTH, 1 - 16 / HEIGHT, title, color=INK, fontweight="bold", fontsize=10)
        _legend(figure, found)
        if kind == ".png":
            buffer = io.BytesIO()
            figure.savefig(
                buffer, format="png", dpi=72 * PIXELS_PER_POINT, facecolor="white", metadata={"Software": None}
            )
            return buffer.getvalue()
        return standalone(to_svg(figure, "serving-front", _description(found))).encode()


def _draw(axes: Axes, found: Document, key: str) -> None:
    for curve in found["curves"]:
        dashes = "--" if curve["mode"] == "disaggregated" else "-"
        colour = _colours(found)[curve["chip"]]
        axes.plot(curve["tokens_per_s_per_user"], curve[key], dashes, color=colour, linewidth=1.6)
    best = found["ranking"][0]
    value = best[key]["value"] if key == "usd_per_mtok" else best[key]
    colour = _colours(found)[best["chip"]]
    axes.plot(
        [best["tokens_per_s_per_user"]], [value], "o", color=colour, markeredgecolor="white", markersize=7, zorder=4
    )
    if key == "usd_per_mtok":
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda usd, _: short(show_usd(usd))))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda _usd, _: ""))
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: short(show_count(rate))))
    axes.set_xlim(left=0)
    axes.set_xlabel("tokens a second for each user")
    axes.grid(color=RULE, linewidth=0.8)
    if found["tpot_target_s"] is not None:
        axes.axvline(1 / found["tpot_target_s"], color=MUTED, linewidth=1.0)


def _legend(figure: Figure, found: Document) -> None:
    """Names of the chips in their colours, then what full and dashed mean."""
    x, y = 6 / WIDTH, 12 / HEIGHT
    words = [(chip, colour) for chip, colour in _colours(found).items()]
    words.append(("full: instances read their own prompts, dashed: another pool reads them", MUTED))
    for text, colour in words:
        figure.text(x, y, text, color=colour, fontsize=8.5)
        x += (len(text) * 5.4 + 14) / WIDTH


def _colours(found: Document) -> dict[str, Any]:
    chips = list(dict.fromkeys(curve["chip"] for curve in found["curves"]))
    return {chip: COLOURS[i % len(COLOURS)] for i, chip in enumerate(chips)}


def _description(found: Document) -> str:
    best = found["ranking"][0]
    return (
        f"Speed per user against tokens per chip and dollars, serving {found['model']['name']}. Ranked first: "
        f"{best['n_chips']} x {best['chip']}, {best['tokens_per_s_per_user']:.0f} tokens a second for each user, "
        f"{best['tokens_per_s_per_chip']:.0f} from each chip"
    )
