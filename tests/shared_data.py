"""Published measurements that several tests hold the catalogue and the forecasts against, where they are at hand.

They lie beside the checkout (``../shared/data``) or where TWOBILLS_SHARED_DATA says; a clone without them skips.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("TWOBILLS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_shared_data = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the shared data folder is not beside the checkout; TWOBILLS_SHARED_DATA may name it"
)


def rows(name: str) -> list[dict[str, str]]:
    """The rows of one of its CSV files; none where the folder is absent, for use at import."""
    path = FOLDER / name
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
