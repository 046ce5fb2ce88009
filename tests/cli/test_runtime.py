from __future__ import annotations

import pytest

from twobills.cli.runtime import is_silent, n_processes


@pytest.mark.parametrize(
    ("environment", "n", "silent"),
    [
        ({}, 1, False),
        ({"WORLD_SIZE": "4", "RANK": "0"}, 4, False),
        ({"WORLD_SIZE": "4", "RANK": "3"}, 4, True),
        ({"WORLD_SIZE": "1", "RANK": "0"}, 1, False),
    ],
)
def test_one_process_of_a_group_speaks(
    environment: dict[str, str], n: int, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert n_processes() == n
    assert is_silent() == silent
