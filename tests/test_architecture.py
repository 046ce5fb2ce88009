"""The law of the rooms: who may import whom, what needs PyTorch, what stays out of functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import twobills

ROOT = Path(twobills.__file__).parent
ALWAYS = {"errors", "units"}
ALL = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} | {"usage", "errors", "units"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "units": set(),
    "usage": set(),
    "specs": {"data"},
    "data": set(),
    "counts": {"specs"},
    "money": {"specs", "usage"},
    "serving": {"specs", "usage"},
    "laws": {"specs", "counts"},
    "perf": {"specs", "counts", "usage"},
    "plan": {"specs", "counts", "usage", "laws", "perf", "serving", "money"},
    "meter": {"usage"},
    "jobs": {"counts", "specs", "usage", "serving", "meter"},
    "ledger": {"specs", "usage", "money"},
    "report": {"specs", "usage", "laws", "perf", "serving", "money", "plan", "ledger"},
    "flows": ALL - {"web", "cli"},
    "cli": ALL - {"jobs"},
    "__main__": {"cli"},
}
TORCH = {"torch", "tokenizers", "safetensors", "transformers"}
HTTP = {"httpx", "fastapi", "uvicorn", "starlette"}
FILES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_each_room_imports_only_the_rooms_it_may(path: Path) -> None:
    here = room(path)
    used = {name.split(".")[1] for name in imports(ast.parse(path.read_text())) if name.startswith("twobills.")}
    used &= ALL  # `from twobills import __version__` names no room
    assert here in MAY_IMPORT or here == "__init__", f"{here} is a room that this test does not know"
    assert used - {here} <= MAY_IMPORT.get(here, set()) | ALWAYS


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_side_effects_stay_with_their_owners(path: Path) -> None:
    packages = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
    here = room(path)
    if here not in {"jobs", "flows"}:
        assert not packages & TORCH
    if "server" not in path.parts and "adapters" not in path.parts:
        assert not packages & HTTP
    if here != "ledger":
        assert "sqlite3" not in packages
    if here != "cli":
        calls = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
        assert not any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)


@pytest.mark.parametrize("path", [p for p in FILES if room(p) != "cli"], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_import_hides_in_a_function(path: Path) -> None:
    functions = (
        n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    hidden = [f.name for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert not hidden


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_holds_one_concept(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 600
    assert path.stem not in {"utils", "util", "common", "helpers", "misc", "manager", "base"}
    assert ast.get_docstring(ast.parse(path.read_text())), "a module opens with what question it answers"


def test_planning_works_without_torch() -> None:
    """Every room but ``jobs``, and the command line's start, in a process that cannot import torch."""
    rooms = [r for r in sorted(ALL) if r not in {"jobs", "flows"}]
    modules = [f"twobills.{r}" for r in rooms] + [
        "twobills.cli.app",
        "twobills.flows.plan",
        "twobills.report.page",
    ]
    code = f"import sys; sys.modules['torch'] = None\nfor m in {modules!r}: __import__(m)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
