"""``twobills search inference`` as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

QUESTION = ("llama-3.1-8b", "--chips", "h200:8", "--prompt-tokens", "4000", "--answer-tokens", "500")
WIDEST = (
    *("deepseek-v3", "--chips", "h200:16,b200:16", "--prompt-tokens", "4000", "--answer-tokens", "500"),
    *("--usd-per-chip-hour", "3", "--top", "3"),
)


def search(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "twobills", "search", "inference", *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_search_is_a_sentence_tables_and_a_command() -> None:
    done = search(*QUESTION, "--ttft", "1000ms", "--tpot", "20ms", "--top", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Of ")
    assert "The cheapest first" in done.stdout
    assert "Nothing beats these" in done.stdout
    assert "\n    vllm serve $MODEL --tensor-parallel-size" in done.stdout


@pytest.mark.parametrize("columns", [80, 120])
def test_no_figure_is_cut_on_a_narrow_screen(columns: int) -> None:
    done = search(*WIDEST, COLUMNS=str(columns))
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    assert "fp8/fp8" in done.stdout, "formats are never left out"
    assert all(len(line) <= columns for line in done.stdout.splitlines() if not line.startswith("    "))


def test_json_is_one_document_and_a_missed_target_is_status_4() -> None:
    done = search(*QUESTION, "--tpot", "0.01ms", "--json")
    assert done.returncode == 4
    document = json.loads(done.stdout)
    assert done.stderr == f"twobills: {document['missed']}\n"


def test_a_plot_is_written_and_another_ending_refused(tmp_path: Path) -> None:
    done = search(*QUESTION, "--plot", str(tmp_path / "front.svg"), "--json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "front.svg").read_text().startswith("<svg")
    refused = search(*QUESTION, "--plot", str(tmp_path / "front.pdf"))
    assert refused.returncode == 2
    assert "must end in .png or .svg" in refused.stderr


def test_a_mistake_is_one_line() -> None:
    done = search(*QUESTION[:-1], "-5")
    assert (done.returncode, done.stdout) == (2, "")
    assert "answer_tokens=-5: must be at least 1" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_torch_matplotlib_and_scipy_are_not_loaded() -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['twobills', 'search', 'inference', *{QUESTION!r}]\n"
        "from twobills.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print([m for m in ('torch', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
