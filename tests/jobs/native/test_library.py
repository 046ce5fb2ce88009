"""Which machines the kernels are for, and what a user reads where they cannot be compiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from twobills.errors import RequestError
from twobills.jobs.native import library

ZEN_4 = "flags\t\t: fpu fma avx512f avx512dq avx512bw avx512vl avx512_bf16\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, in which nothing was compiled yet."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("cpuinfo", "runs"),
    [
        (f"processor\t: 0\n{ZEN_4}", True),
        (ZEN_4.replace("avx512_bf16", "avx512_vnni"), False),
        (ZEN_4.replace("fma", "fma amx_bf16 amx_tile"), False),
        ("Features\t: fp asimd bf16\n", False),
    ],
)
def test_they_are_for_cpus_with_bf16_products_and_no_matrix_units(
    cpuinfo: str, runs: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "_compiler", lambda: "g++")
    (home / "cpuinfo").write_text(cpuinfo)
    assert library.runs_here(home / "cpuinfo") == runs
    assert not library.runs_here(home / "none")


def test_without_a_compiler_nothing_runs_and_one_line_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_compiler", lambda: None)
    (home / "cpuinfo").write_text(ZEN_4)
    assert not library.runs_here(home / "cpuinfo")
    with pytest.raises(RequestError, match=r"^no C\+\+ compiler found \(g\+\+, clang\+\+, c\+\+\): install one"):
        library.load.__wrapped__()


def test_sources_that_do_not_compile_are_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if library._compiler() is None:
        pytest.skip("no C++ compiler")
    for name in library.SOURCES:
        (home / name).write_text("nonsense;\n")
    monkeypatch.setattr(library, "HERE", home)
    said = r"did not compile the kernels \(.*error.*\): compile = false runs without them"
    with pytest.raises(RequestError, match=said) as raised:
        library.load.__wrapped__()
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(not library.runs_here(), reason="no CPU with bf16 products and without AMX, or no C++ compiler")
def test_they_are_compiled_once_and_anywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library.load.__wrapped__()
    (compiled,) = (home / ".cache" / "twobills").iterdir()
    written = compiled.stat().st_mtime_ns
    library.load.__wrapped__()
    assert compiled.stat().st_mtime_ns == written
    (home / "full").write_text("no folder can be made here")
    monkeypatch.setattr(Path, "home", lambda: home / "full")
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(_folder(home / prefix)))
    assert library.load.__wrapped__().twobills_mlp_forward
    assert [file.name for file in (home / "twobills-").iterdir()] == [compiled.name]


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
