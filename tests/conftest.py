"""What all tests share: a ledger of their own, and no colour."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes to the user's ledger."""
    monkeypatch.setenv("TWOBILLS_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv("NO_COLOR", "1")
