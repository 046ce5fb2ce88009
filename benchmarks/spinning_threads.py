"""What GNU OpenMP's spinning threads cost when another process wants the cores, and what GOMP_SPINCOUNT does about it.

Why: `twobills` sets GOMP_SPINCOUNT before PyTorch is loaded; this is the measurement behind it. Each round runs the
four cases one after the other (default or set, alone or beside a two-thread neighbour), so that drift hits all alike;
medians are shown.
What it does not show: machines with many idle cores, other OpenMP runtimes, whole training steps.

    python benchmarks/spinning_threads.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from twobills.cli.options import default_ledger
from twobills.cli.runtime import SETTINGS
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.meter.environment import environment

TIMED = """
import time, torch
torch.set_num_threads(2)
x = torch.randn(2048 * 256).bfloat16()
for _ in range(50): x + x
start = time.perf_counter()
for _ in range(300): x + x
print((time.perf_counter() - start) / 300)
"""
NEIGHBOUR = "import torch\ntorch.set_num_threads(2)\nx = torch.randn(512, 512)\nwhile True: x @ x"
NEIGHBOUR_START_S = 6.0


def main() -> None:
    """Runs the rounds, prints a table and one JSON line, and writes one ledger record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    cases: dict[tuple[str, bool], list[float]] = {
        (kind, beside): [] for kind in ("default", "GOMP_SPINCOUNT") for beside in (False, True)
    }
    for _ in range(rounds):
        for (kind, beside), seconds in cases.items():
            seconds.append(_seconds(kind, beside))
    result = {
        f"{kind}, {'beside a neighbour' if beside else 'alone'}": statistics.median(seconds)
        for (kind, beside), seconds in cases.items()
    }
    for name, seconds in result.items():
        print(f"{name:40} {1e3 * seconds:8.3f} ms a call")
    ledger = Ledger(Path(os.environ.get("TWOBILLS_LEDGER", default_ledger())))
    run_id = ledger.start("benchmark spinning_threads", {"rounds": rounds, "environment": environment()})
    ledger.result(run_id, {"seconds_per_call": result})
    ledger.end(run_id, Outcome.DONE)
    print(json.dumps({"benchmark": "spinning_threads", "run_id": run_id, "seconds_per_call_s": result}))


def _seconds(kind: str, beside: bool) -> float:
    variables = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    if kind != "default":
        variables["GOMP_SPINCOUNT"] = SETTINGS["GOMP_SPINCOUNT"]
    neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR], env=variables) if beside else None
    try:
        time.sleep(NEIGHBOUR_START_S if beside else 0)
        done = subprocess.run([sys.executable, "-c", TIMED], env=variables, capture_output=True, text=True, check=True)
    finally:
        if neighbour:
            neighbour.kill()
            neighbour.wait()
    return float(done.stdout)


if __name__ == "__main__":
    main()
