"""What a run ran on and with: system, Python, versions, the machine's load. Kept beside every measurement."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

from twobills import __version__

_PACKAGES = ("torch", "tokenizers", "numpy")


def environment() -> dict[str, Any]:
    """Versions and load average as plain JSON; a package that is absent is null."""
    return {
        "twobills": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "load_average": list(os.getloadavg()),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
