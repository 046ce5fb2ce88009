"""Figures as SVG text, ready to stand inside an HTML page: one file per question a reader asks of a run."""
