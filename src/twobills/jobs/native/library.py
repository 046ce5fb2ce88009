"""The kernels beside this file as a library, compiled by the machine's own C++ compiler and kept for the next run.

They are for x86 CPUs that multiply pairs of bf16 (AVX512-BF16: Zen 4 and 5, Cooper Lake) and have no matrix units
(AMX), with which PyTorch's products are faster. The file's name carries a digest of sources and flags.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from twobills.errors import RequestError

HERE = Path(__file__).parent
SOURCES = ("kernels.cpp", "attention.h", "products.h", "rows.h", "vectors.h")
COMPILERS = ("g++", "clang++", "c++")
FLAGS = (
    "-O3", "-std=c++17", "-shared", "-fPIC", "-fopenmp", "-w",
    "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512bf16", "-mfma",
)  # fmt: skip
NEEDS = frozenset(("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16", "fma"))
BETTER_SERVED = "amx_bf16"


def runs_here(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU has the instructions, no better ones, and the machine a compiler."""
    flags = _cpu_flags(cpuinfo)
    return flags >= NEEDS and BETTER_SERVED not in flags and _compiler() is not None


@cache
def load() -> ctypes.CDLL:
    """The library, compiled first where it never was: some seconds. Raises RequestError if the compiler fails."""
    folder = Path.home() / ".cache" / "twobills"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return ctypes.CDLL(str(_compiled(folder)))
    except OSError:  # a home that cannot be written to, or a library that was cut off
        return ctypes.CDLL(str(_compiled(Path(tempfile.mkdtemp(prefix="twobills-")))))


def _compiled(folder: Path) -> Path:
    compiler = _compiler()
    if compiler is None:
        raise RequestError(f"no C++ compiler found ({', '.join(COMPILERS)}): install one, or set compile = false")
    sources = b"".join((HERE / name).read_bytes() for name in SOURCES)
    digest = hashlib.sha256(sources + " ".join((compiler, *FLAGS)).encode()).hexdigest()[:16]
    library = folder / f"kernels-{digest}.so"
    if library.exists():
        return library
    unfinished = library.with_suffix(f".{os.getpid()}")
    done = subprocess.run(
        [compiler, *FLAGS, "-o", str(unfinished), str(HERE / SOURCES[0])], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), f"status {done.returncode}")
        raise RequestError(f"{compiler} did not compile the kernels ({said}): compile = false runs without them")
    unfinished.replace(library)
    return library


def _compiler() -> str | None:
    return next((path for name in COMPILERS if (path := shutil.which(name))), None)


def _cpu_flags(cpuinfo: Path) -> frozenset[str]:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))
