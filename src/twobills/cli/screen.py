"""The screen: tables and one JSON document on stdout, messages and progress on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from twobills.report.documents import to_json_text
from twobills.report.tables import STAMPS, Table

LEAST_FIRST = (
    *("Bytes", "FLOPs", "Tokens", "Price gap", "Share in a year", "Machines", "Energy", "Energy is"),
    *("Price is", "Year", "Linked", "W", "Links GB/s", "Made for", "B/kFLOP", "$/PFLOP-h", "Region"),
    *("Computing", "Step", "$/Ttok", "MFU", "Settings"),
    *("Forecast before", "Forecast after"),
    *("Running", "tok/s/chip"),
    *("or after", "They cross after", "From", "To"),
    *("Infer FLOPs", "Train FLOPs", "Over best"),
)
"""Columns that a narrow screen can do without, the first to go first."""
PLAIN_WIDTH = 120
"""Columns where no terminal and no COLUMNS says how many there are."""
_piped_width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PLAIN_WIDTH
_colors: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
out = Console(highlight=False, width=_piped_width, color_system=_colors)
err = Console(stderr=True, highlight=False, width=_piped_width, color_system=_colors)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    print(to_json_text(document))


def print_table(table: Table) -> None:
    """A table for people: figures to the right, stamps in italics, a rule above the total.

    Where it is wider than the screen, the columns that matter least are left out and named: never a cut figure.
    """
    table, left_out = _fitted(table, out.width)
    rich = RichTable(title=escape(table.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for i, column in enumerate(table.columns):
        rich.add_column(escape(column), justify="left" if i < table.n_text_columns else "right")
    for i, row in enumerate(table.rows):
        before_total = table.has_total and i == len(table.rows) - 2
        cells = (f"[italic]{cell}[/italic]" if cell in STAMPS else escape(cell) for cell in row)
        rich.add_row(*cells, end_section=before_total)
    out.print(rich)
    if left_out:
        out.print(f"[dim]Too narrow for: {', '.join(left_out)}. A wider screen or --json shows them.[/dim]")


def _fitted(table: Table, width: int) -> tuple[Table, list[str]]:
    """The table without as many of ``LEAST_FIRST`` as it takes to fit, and their names."""
    left_out = []
    for name in LEAST_FIRST:
        columns = [[column, *cells] for column, *cells in zip(table.columns, *table.rows, strict=True)]
        needed = sum(max(map(len, column)) + 3 for column in columns)
        if needed <= width or name not in table.columns:
            continue
        at = table.columns.index(name)
        rows = [(*row[:at], *row[at + 1 :]) for row in table.rows]
        table = table._replace(
            columns=(*table.columns[:at], *table.columns[at + 1 :]),
            rows=rows,
            n_text_columns=table.n_text_columns - (at < table.n_text_columns),
        )
        left_out.append(name)
    return table, left_out


def say(sentence: str) -> None:
    """A plain sentence on stdout."""
    out.print(escape(sentence))
