"""How the command line begins and ends: help, completion, colours, options that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from twobills import __version__


def twobills(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "twobills", *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan", "training", "gpt2"), "Missing option '--tokens'; `twobills plan training --help`"),
        (
            ("plan", "training", "gpt2", "--tokens", "1B", "--job", "sing"),
            "'sing' is not one of 'pretrain', 'finetune'",
        ),
        (("plan", "training", "gpt2", "--tokens", "1B", "--tp", "0"), "'--tp': Input should be greater than or equal"),
        (("plan", "training", "gpt2", "--tokens", "1B", "--tpp", "2"), "No such option: --tpp"),
        (("plan", "training", "gpt2", "--tokens"), "Option '--tokens' requires an argument"),
        (("sing",), "No such command 'sing'; `twobills --help`"),
        (("chips", "show"), "Missing argument 'name'"),
    ],
)
def test_an_option_that_cannot_be_is_one_line_too(arguments: tuple[str, ...], message: str) -> None:
    done = twobills(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("twobills: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_version_and_completion_end_as_they_should() -> None:
    nothing_asked = twobills()
    assert (nothing_asked.returncode, nothing_asked.stderr) == (2, "")
    assert "Usage" in nothing_asked.stdout
    assert twobills("plan", "training", "--help").returncode == 0
    assert twobills("--version").stdout == f"twobills {__version__}\n"
    words = {"_TWOBILLS_COMPLETE": "complete_bash", "COMP_WORDS": "twobills chi", "COMP_CWORD": "1"}
    completed = twobills(**words)
    assert (completed.returncode, completed.stdout.split()) == (0, ["chips"])


@pytest.mark.parametrize("arguments", [("--help",), ("chips", "show", "h100")])
def test_no_color_wins_over_force_color(arguments: tuple[str, ...]) -> None:
    assert "\x1b[" in twobills(*arguments, FORCE_COLOR="1", NO_COLOR="").stdout
    assert "\x1b[" not in twobills(*arguments, FORCE_COLOR="1", NO_COLOR="1").stdout
