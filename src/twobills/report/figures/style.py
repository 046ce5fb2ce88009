"""How every figure looks, and how a matplotlib figure becomes SVG text that can stand inside a page.

One accent colour per bill, words in the page's own font (text stays text), nothing fixed in pixels, no
background. Colours leave as CSS variables with the light colour as fall-back, so that a page or a file by itself
can be dark too. The same data gives the same bytes: ids come from the figure's name and a fixed salt, and no date
is written. pyplot is never imported; matplotlib's global settings change only inside ``house_style``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from twobills.report.words import short
from twobills.units import show_usd
from twobills.usage import Job

POINTS_PER_INCH = 72.0
PANEL_WIDTH = 320.0
"""Points: half of the page, or all of a telephone."""
LEFT = 56.0
"""Points kept for the words left of horizontal bars, the same in every figure so that panels align."""
FONT_FAMILY = "ui-sans-serif, system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


class Shade(NamedTuple):
    """One colour on white and on near-black."""

    light: str
    dark: str


PALETTE: Mapping[str, Shade] = {
    "training": Shade("#b5532a", "#f0986f"),
    "inference": Shade("#1f6d8c", "#66b8d6"),
    "ink": Shade("#1e2329", "#e7e9ec"),
    "muted": Shade("#69717d", "#9aa3af"),
    "rule": Shade("#dfe2e6", "#343a42"),
    "paper": Shade("#fffefc", "#15181c"),
}
INK, MUTED, RULE, PAPER = (PALETTE[name].light for name in ("ink", "muted", "rule", "paper"))

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "twobills",
    "text.parse_math": False,  # two dollar signs in one label would be read as a formula
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def accent(job: str) -> str:
    """The colour of one of the two bills."""
    return PALETTE[Job(job).value].light


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's settings for as long as a figure is built and written."""
    with mpl.rc_context(_SETTINGS):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many points."""
    return Figure(figsize=(width / POINTS_PER_INCH, height / POINTS_PER_INCH))


def add_axes(figure: Figure, *, left: float, right: float, bottom: float, top: float) -> Axes:
    """Bare axes between margins in points, measured from the figure's left edge and from its bottom."""
    width, height = figure.get_size_inches() * POINTS_PER_INCH
    axes = figure.add_axes((left / width, bottom / height, (right - left) / width, (top - bottom) / height))
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_axisbelow(True)
    return axes


def dollars_along_x(axes: Axes, *, low: float, high: float) -> None:
    """A dollar scale from ``low`` to ``high`` with few round ticks, none so far right that it is cut off."""
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda usd, _: short(show_usd(usd)) if usd < 0.94 * high else ""))
    axes.grid(axis="x", color=RULE, linewidth=0.8)


def title(figure: Figure, words: str, colour: str, *, left: float = 0.0) -> None:
    """A panel's name at its top, ``left`` points from the figure's edge."""
    width, height = figure.get_size_inches() * POINTS_PER_INCH
    figure.text(left / width, 1 - 15 / height, words, color=colour, fontweight="bold", fontsize=11)


def solid_bar(
    axes: Axes, place: float, start: float, end: float, *, height: float, colour: str, strength: float
) -> None:
    """A horizontal bar as pale as ``strength`` says, through which no hair line shows."""
    for fill, alpha in ((PAPER, 1.0), (colour, strength)):
        axes.barh(place, end - start, left=start, height=height, color=fill, alpha=alpha, linewidth=0)


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an ``<svg>`` element.

    ``name`` makes its ids unique on the page; ``description`` is what a screen reader says.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*(; )?", "", body)
    body = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", body)
    body = _with_own_ids(body, name)
    width, height = figure.get_size_inches() * POINTS_PER_INCH
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img"'
        f' aria-label={quoteattr(description)} viewBox="0 0 {width:g} {height:g}"'
        f' style="font-family: {FONT_FAMILY}; stroke-linejoin: round">'
        f"<title>{escape(description)}</title>{_with_variables(body)}</svg>\n"
    )


def standalone(svg: str) -> str:
    """The same figure as a file of its own, which turns dark where its reader does (a README's picture)."""
    dark = " ".join(f"--tb-{name}: {shade.dark};" for name, shade in PALETTE.items())
    style = f"<style>@media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}</style>"
    return svg.replace("<title>", f"{style}<title>", 1)


def _with_own_ids(body: str, name: str) -> str:
    """Ids of groups that nothing refers to go; the others begin with the figure's name."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)


def _with_variables(body: str) -> str:
    for name, shade in PALETTE.items():
        body = body.replace(shade.light, f"var(--tb-{name}, {shade.light})")
    return body
