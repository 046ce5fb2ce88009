"""The plots of ``laws fit --plots DIR``: each figure as .svg and as .png."""

from __future__ import annotations

from pathlib import Path

from twobills.errors import RequestError
from twobills.flows.laws_fit import FittedRuns
from twobills.report.figures.laws import contour_figure, isoflop_figure, residual_figure


def write_plots(found: FittedRuns, folder: Path) -> list[Path]:
    """Writes curves and minima, contours and frontier, residuals; the files that were written."""
    written = []
    for kind in (".svg", ".png"):
        pictures = {
            "isoflops": isoflop_figure(found.curves, kind),
            "contours": contour_figure(found.runs, found.law, kind),
            "residuals": residual_figure(found.runs, found.residuals, kind),
        }
        for name, picture in pictures.items():
            if picture is None:
                continue
            path = folder / f"{name}{kind}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture)
            except OSError as error:
                raise RequestError(f"--plots {folder}: cannot be written ({error})") from None
            written.append(path)
    return written
