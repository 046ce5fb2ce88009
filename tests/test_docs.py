"""The documents say what the program does: commands exist, files exist, one screen is one screen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from twobills.cli.app import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> set[str]:
    """All command names, groups and what is in them."""
    group = get_command(app)
    names = set(group.commands)  # type: ignore[attr-defined]
    for command in group.commands.values():  # type: ignore[attr-defined]
        names |= set(getattr(command, "commands", ()))
    return names


def test_the_readme_gives_the_two_commands() -> None:
    lines = [line.strip() for line in README.splitlines()]
    assert "pip install -c constraints.txt -e '.[run]' && twobills run" in lines
    assert "pip install -c constraints.txt -e '.[dev]' && pytest" in lines


def test_the_readme_is_one_screen() -> None:
    assert len(README.splitlines()) <= 60


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_every_command_that_is_named_exists(document: Path) -> None:
    named = set(re.findall(r"`twobills ([a-z]+)", document.read_text()))
    assert named <= commands()


def test_every_command_is_in_the_readme() -> None:
    missing = {name for name in commands() if not re.search(rf"\b{name}\b", README)}
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_every_file_that_is_linked_exists(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text())
    assert all((document.parent / link).exists() for link in links if "://" not in link)


def test_every_room_is_on_the_map() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {path.name for path in (ROOT / "src" / "twobills").iterdir() if (path / "__init__.py").exists()}
    assert all(f"`{room}`" in text for room in rooms)
