"""A command's result as one JSON document, the same on stdout and in a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

SCHEMA = 1
"""Version of the documents' shape; it grows when a key is renamed or means something else."""


def to_json_text(document: Mapping[str, Any]) -> str:
    """The document as JSON text; a figure that is not finite does not exist and is null."""
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
