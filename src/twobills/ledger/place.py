"""Where the ledger lies: one file for all commands and for every training loop that is metered."""

from __future__ import annotations

import os
from pathlib import Path

LEDGER_VARIABLE = "TWOBILLS_LEDGER"


def default_ledger() -> Path:
    """The file that TWOBILLS_LEDGER names, else one in the user's data folder."""
    if given := os.environ.get(LEDGER_VARIABLE):
        return Path(given)
    data_home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data_home).expanduser() / "twobills" / "ledger.sqlite"
