"""The page of a plan, written to a file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twobills import __version__
from twobills.flows.plan_request import write_text
from twobills.report.life_page import life_page


def write_report(document: Mapping[str, Any], path: Path) -> None:
    """Writes the page whole or not at all. Raises RequestError where it cannot be written."""
    words = f"{datetime.now(UTC):%d %B %Y}".lstrip("0")
    write_text(path, life_page(document, version=__version__, date=words), "--report")
