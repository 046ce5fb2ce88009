"""Process settings that PyTorch on a CPU needs before it is loaded: allocator and threads.

Two defaults cost dearly. glibc hands large blocks back to the kernel after every free, and a training step pays for
mapping them again. GNU OpenMP's threads spin at every barrier, and on a machine that others use too the spinning
thread keeps the other one from its core: calls of 0.05 ms were seen to take 8 ms. Environment variables mend both, but
only if they are set before the process starts; so a job's process replaces itself once with them set.

At its end Python takes PyTorch apart module by module, for a second that no bill has and nobody wants: a process that
has done its work leaves at once.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

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


@contextmanager
def leaving_quickly() -> Iterator[None]:
    """Ends the process where the body does, by SystemExit, if PyTorch is loaded; what wants to be told is told."""
    try:
        yield
    except SystemExit as end:
        if "torch" not in sys.modules or not isinstance(end.code, int | None):
            raise
        with suppress(BaseException):
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(end.code or 0)


def n_processes() -> int:
    """How many processes ``torchrun`` started this one among; 1 if it was not."""
    n = os.environ.get("WORLD_SIZE", "1")
    return int(n) if n.isdigit() else 1


def is_silent() -> bool:
    """Whether another process of the group says what this one could say."""
    return n_processes() > 1 and os.environ.get("RANK") != "0"
