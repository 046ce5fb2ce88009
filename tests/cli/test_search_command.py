"""``twobills search training`` as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

WIDEST = ("deepseek-v3", "--chips", "h800-sxm:2048,h100-sxm:1024", "--tokens", "14.8T", "--usd-per-chip-hour", "2")


def search(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "twobills", "search", "training", *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_search_is_a_sentence_two_tables_and_a_command() -> None:
    done = search("llama-3.1-8b", "--chips", "h100-sxm:64", "--tokens", "1T", "--top", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Of ")
    assert "The fastest first" in done.stdout
    assert "Nothing beats these" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("    twobills plan training llama-3.1-8b --tokens 1T")


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_no_figure_is_cut_on_a_narrow_screen(columns: int) -> None:
    done = search(*WIDEST, COLUMNS=str(columns))
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    assert all(len(line) <= columns for line in done.stdout.splitlines() if not line.startswith("    twobills"))


def test_json_is_one_document_and_a_missed_deadline_is_status_4() -> None:
    done = search("llama-3.1-8b", "--chips", "h100-sxm:64", "--tokens", "15T", "--max-days", "30", "--json")
    assert done.returncode == 4
    document = json.loads(done.stdout)
    assert done.stderr == f"twobills: {document['missed']}\n"
    assert "too long" in document["missed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("llama-3.1-8b", "--chips", "h100-sxm:many", "--tokens", "1T"), "write it as NAME:COUNT"),
        (("llama-3.1-8b", "--chips", "a100:8", "--tokens", "1T", "--dtype", "fp8"), "has no fp8"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = search(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_torch_matplotlib_and_scipy_are_not_loaded() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['twobills', 'search', 'training', 'llama-3.1-8b', '--chips', 'h100-sxm:8', '--tokens', '1T']\n"
        "from twobills.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print([m for m in ('torch', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
