"""Memory that is kept is not asked of the kernel again."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

FREE_AND_TAKE_AGAIN = """
import ctypes, resource, sys
from twobills.jobs.allocator import keep_memory
if sys.argv[1] == "keep" and not keep_memory():
    sys.exit("not glibc")
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def touch():
    blocks = [libc.malloc(64 << 20) for _ in range(3)]
    for block in blocks:
        ctypes.memset(block, 1, 64 << 20)
    for block in blocks:
        libc.free(block)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    """Pages that taking 192 MiB a second time makes the kernel give."""
    run = subprocess.run([sys.executable, "-c", FREE_AND_TAKE_AGAIN, mode], capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip(run.stderr)
    return int(run.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_memory_that_is_kept_is_not_given_again() -> None:
    pages = 3 * (64 << 20) // resource.getpagesize()
    kept, given_back = faults("keep"), faults("default")
    assert kept < pages / 100
    assert given_back > 10 * max(kept, 1)
