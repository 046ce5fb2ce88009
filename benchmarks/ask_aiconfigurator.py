"""Runs in AIConfigurator's own environment: its estimate of each question, one JSON line each.

    python ask_aiconfigurator.py QUESTIONS.json ANSWERS.jsonl

A question is a model, a system and the keywords of its ``cli_estimate``; an answer has ``ttft_s``, ``tpot_s``, the
``database`` (version of the engine whose kernels were measured) and its own ``doubt``, or the ``reason`` for none.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from aiconfigurator.cli.api import cli_estimate
from aiconfigurator.sdk.perf_database import get_latest_database_version

latest = cache(get_latest_database_version)
"""What an estimate asks three times over; it takes a second."""


def main() -> None:
    """Answers all questions, in order."""
    questions = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with Path(sys.argv[2]).open("w", encoding="utf-8") as file:
        for question in questions:
            file.write(json.dumps(_answer(question)) + "\n")
            file.flush()


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    system, keywords = question["system"], question["keywords"]
    try:
        version = latest(system=system, backend=keywords["backend_name"])
        found = cli_estimate(question["model"], system, backend_version=version, **keywords)
    except Exception as error:  # whatever it raises is its reason for no forecast
        return {"reason": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
    times = {"ttft_s": float(found.ttft) / 1000, "tpot_s": float(found.tpot) / 1000}
    return {**times, "database": found.backend_version, "doubt": found.kv_cache_warning or ""}


if __name__ == "__main__":
    main()
