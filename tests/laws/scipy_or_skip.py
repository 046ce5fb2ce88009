"""Skips whoever imports this where SciPy is not installed: fits need it, the rest of the laws does not."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy", reason="fits need SciPy, the extra [fit]")
