"""The peer that benchmarks compare with: its release, and an environment of its own that has it (850 MB, minutes)."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

NAME, VERSION = "AIConfigurator", "0.12.0"
PEER = f"aiconfigurator=={VERSION}"
FOLDER = Path.home() / ".cache" / "twobills" / "aiconfigurator"


def peer_python(folder: Path) -> tuple[Path | None, str]:
    """The Python of an environment that has the peer, made if it is not there; else why there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", PEER], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return None, f"could not be installed: {done.stderr.strip().splitlines()[-1]}"
    return python, ""
