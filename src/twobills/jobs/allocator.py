"""Memory that a training process was given stays with it: glibc would hand every large block back to the kernel.

A step asks for the same blocks as the one before. By default glibc maps large ones anew, and the kernel zeroes every
page again: on a CPU that took up to a tenth of a step. The same settings as ``MALLOC_MMAP_THRESHOLD_`` and its sisters
in the environment, without starting the process again. Elsewhere than under glibc nothing happens.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Names of glibc's ``mallopt``."""
_NEVER, _GROW_BY = 2**31 - 1, 2**28


def keep_memory() -> bool:
    """Whether this process now keeps what it frees."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_MMAP_THRESHOLD, _NEVER), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _GROW_BY))
    done = [bool(mallopt(name, value)) for name, value in settings]
    return all(done)
