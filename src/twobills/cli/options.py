"""Options that several commands share, declared once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def default_ledger() -> Path:
    """Where the ledger lies unless ``--ledger`` or TWOBILLS_LEDGER says otherwise: the user's data folder."""
    data_home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data_home).expanduser() / "twobills" / "ledger.sqlite"


LedgerPath = Annotated[
    Path,
    typer.Option(
        "--ledger",
        envvar="TWOBILLS_LEDGER",
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
