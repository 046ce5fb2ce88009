"""The screen: tables and one JSON document on stdout, messages and progress on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from twobills.report.documents import to_json_text
from twobills.report.tables import STAMPS, Table

PLAIN_WIDTH = 120
"""Columns where no terminal and no COLUMNS says how many there are."""
_piped_width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PLAIN_WIDTH
out = Console(highlight=False, width=_piped_width)
err = Console(stderr=True, highlight=False, width=_piped_width)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    print(to_json_text(document))


def print_table(table: Table) -> None:
    """A table for people: figures to the right, stamps in italics, a rule above the total."""
    rich = RichTable(title=escape(table.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for i, column in enumerate(table.columns):
        rich.add_column(escape(column), justify="left" if i < table.n_text_columns else "right")
    for i, row in enumerate(table.rows):
        before_total = table.has_total and i == len(table.rows) - 2
        cells = (f"[italic]{cell}[/italic]" if cell in STAMPS else escape(cell) for cell in row)
        rich.add_row(*cells, end_section=before_total)
    out.print(rich)


def say(sentence: str) -> None:
    """A plain sentence on stdout."""
    out.print(escape(sentence))
