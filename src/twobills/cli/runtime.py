"""Process settings that PyTorch on a CPU needs before it is loaded: allocator and threads.

Two defaults cost dearly. glibc hands large blocks back to the kernel after every free, and a training step pays for
mapping them again. GNU OpenMP's threads spin at every barrier, and on a machine that others use too the spinning
thread keeps the other one from its core: calls of 0.05 ms were seen to take 8 ms. Environment variables mend both, but
only if they are set before the process starts; so a job's process replaces itself once with them set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

SETTINGS: Mapping[str, str] = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 28),
    "GOMP_SPINCOUNT": "2000",
}


def restart_with_settings() -> None:
    """Replaces this process by itself with the settings that the user did not choose; nothing the second time.

    Only on Linux: elsewhere the variables mean nothing.
    """
    missing = {key: value for key, value in SETTINGS.items() if key not in os.environ}
    if sys.platform == "linux" and missing:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})
