"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twobills.ledger.place import LEDGER_VARIABLE, default_ledger

LedgerPath = Annotated[
    Path,
    typer.Option(
        "--ledger",
        envvar=LEDGER_VARIABLE,
        default_factory=default_ledger,
        show_default="in your data folder",
        help="The ledger's file.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of tables.")]
CatalogFile = Annotated[
    Path | None,
    typer.Option(
        "--catalog", help="Your own rows, which override ours: a TOML file of tables chip.NAME, model.NAME and price."
    ),
]
ChipHourPrice = Annotated[
    float | None,
    typer.Option("--usd-per-chip-hour", min=0, help="What you pay for a chip-hour (on a CPU: a core-hour)."),
]
