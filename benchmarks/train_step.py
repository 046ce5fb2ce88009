"""The training step of twobills beside those that others run: tokens/s and fraction of the matrix-product limit.

Why: ours is to reach at least 70 % of the bf16 limit eagerly and 80 % compiled, 1.25 x the best peer eagerly and 1.4 x
compiled, and with two threads 1.6 x one (issue 5). The shape has 10.7M parameters in matrices (6 layers, width 384,
6 heads, context 256, bytes), a step 32 x 256 tokens of the Python standard library. Every contender runs in a process
of its own with its own best settings; rounds take turns, so that drift hits all alike, and each one's best step
counts: CPU seconds on one thread, wall seconds on two. The limit is a 2048 x 2048 x 2048 product in bf16, the best
of all measured in the same run before and after each contender; beside it stands the best of the step's own shapes.
FLOPs are the model's: 6 per matrix parameter, causal attention (half the square), whatever a loop really executes.
What it does not show: what is learned from the tokens, memory, other shapes, GPUs.

    python benchmarks/train_step.py [--rounds 3] [--quick] [--peer-environment DIR | --no-peer]

Peers run with this Python where it has transformers, else in an environment of their own, made at the first run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from our_training import OURS, model_of
from timed_steps import CONTEXT, ROWS
from twobills.counts.flops import train_flops_per_token
from twobills.jobs.data.corpus import read_corpus
from twobills.ledger.place import default_ledger
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.meter.environment import environment

HERE = Path(__file__).parent
TRANSFORMERS = "transformers==5.23.0"
FOLDER = Path.home() / ".cache" / "twobills" / "peer-training"
PEERS = (
    *("transformers-fp32", "transformers-autocast", "transformers-bf16"),
    *("gpt-fp32", "gpt-autocast", "gpt-autocast-compiled"),
)
QUICK = ("gated", "relu2", "transformers-bf16", "gpt-autocast")
BARS = {
    "gated / limit": 0.70,
    "relu2 / limit": 0.70,
    "gated-compiled / limit": 0.80,
    "relu2-compiled / limit": 0.80,
    "gated / best eager peer": 1.25,
    "relu2 / best eager peer": 1.25,
    "gated-compiled / best peer": 1.4,
    "relu2-compiled / best peer": 1.4,
    "gated, two threads / one": 1.6,
    "relu2, two threads / one": 1.6,
}


class Contender(NamedTuple):
    """One loop with so many threads."""

    name: str
    n_threads: int
    command: list[str]


def main() -> None:
    """Runs the rounds, prints a table and one JSON line, and writes one ledger record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of a contender in a round")
    parser.add_argument("--quick", action="store_true", help="one round, two steps, four contenders, one thread")
    parser.add_argument("--peer-environment", type=Path, default=FOLDER)
    parser.add_argument("--no-peer", action="store_true")
    given = parser.parse_args()
    n_rounds, n_steps = (1, 2) if given.quick else (given.rounds, given.steps)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npy"
        documents = read_corpus(None).sample(math.inf)
        np.save(data, np.frombuffer(b"".join(document.content for document in documents), np.uint8))
        peer, missing = (None, "not asked for") if given.no_peer else _peer_python(given.peer_environment)
        contenders = [*_contenders(data, n_steps, peer, quick=given.quick)]
        found = _run(contenders, n_rounds)
    result = _result(contenders, found)
    if missing:
        result["peers"] = missing
    _show(result)
    ledger = Ledger(default_ledger())
    settings = {"rounds": n_rounds, "steps": n_steps, "environment": environment()}
    run_id = ledger.start("benchmark train_step", settings)
    ledger.result(run_id, result)
    ledger.end(run_id, Outcome.DONE)
    print(json.dumps(result))


def _contenders(data: Path, n_steps: int, peer: Path | None, *, quick: bool) -> Iterator[Contender]:
    for n_threads in (1,) if quick else (1, 2):
        for name in (*OURS, *(PEERS if peer else ())):
            if quick and name not in QUICK:
                continue
            python, script = (sys.executable, "our_training.py") if name in OURS else (str(peer), "peer_training.py")
            arguments = ["--threads", str(n_threads), "--steps", str(n_steps)]
            yield Contender(name, n_threads, [python, str(HERE / script), name, str(data), *arguments])


def _run(contenders: list[Contender], n_rounds: int) -> dict[int, list[dict[str, Any]]]:
    """What each contender said in each round, by its place in the list."""
    found: dict[int, list[dict[str, Any]]] = {i: [] for i in range(len(contenders))}
    for n in range(n_rounds):
        for i, contender in enumerate(contenders):
            print(f"round {n + 1} of {n_rounds}: {contender.name}, {contender.n_threads} threads", file=sys.stderr)
            settings = {**os.environ, "OMP_NUM_THREADS": str(contender.n_threads)}
            done = subprocess.run(contender.command, capture_output=True, text=True, env=settings, check=False)
            if done.returncode:
                print(f"{contender.name} failed:\n{done.stderr[-1500:]}", file=sys.stderr)
            else:
                found[i].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def _result(contenders: list[Contender], found: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
    flops_per_token = train_flops_per_token(model_of("gated"), CONTEXT)
    limits = {
        n: {shape: _best_limit(contenders, found, n, shape) for shape in ("large", "of_the_step")}
        for n in sorted({c.n_threads for c in contenders})
    }
    rows = []
    for i, contender in enumerate(contenders):
        seconds = [s for said in found[i] for s in said["seconds"]]
        if not seconds:
            continue
        tokens_per_s = ROWS * CONTEXT / min(seconds)
        limit = limits[contender.n_threads]
        rows.append(
            {
                "name": contender.name,
                "threads": contender.n_threads,
                "tokens_per_s": tokens_per_s,
                "model_flops_per_s": tokens_per_s * flops_per_token,
                "fraction_of_limit": tokens_per_s * flops_per_token / limit["large"],
                "fraction_of_best_own_product": tokens_per_s * flops_per_token / limit["of_the_step"],
                "median_s": float(np.median(seconds)),
                "best_s": min(seconds),
                "loss_after": found[i][-1]["last_loss"],
                "command": " ".join(Path(x).name if "/" in x else x for x in contender.command),
            }
        )
    bars = _bars(rows)
    return {
        "flops_convention": "6 x matrix parameters + causal attention (half the square)",
        "flops_per_token": flops_per_token,
        "limits_flops_per_s": limits,
        "contenders": rows,
        "bars": bars,
        "torch": torch.__version__,
        "processor": os.uname().machine,
    }


def _best_limit(contenders: list[Contender], found: dict[int, list[dict[str, Any]]], n: int, shape: str) -> float:
    said = [s for i, c in enumerate(contenders) if c.n_threads == n for s in found[i]]
    return max((s["limits_flops_per_s"]["torch.bfloat16"][shape] for s in said), default=float("nan"))


def _bars(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each bar with what was reached; one that could not be measured is left out."""
    speed = {(row["name"], row["threads"]): row["tokens_per_s"] for row in rows}
    fraction = {row["name"]: row["fraction_of_limit"] for row in rows if row["threads"] == 1}
    best = max((speed[name, 1] for name in PEERS if (name, 1) in speed), default=None)
    eager = max(
        (v for (name, n), v in speed.items() if n == 1 and name in PEERS and "compiled" not in name), default=None
    )
    reached = {}
    for name in ("gated", "relu2", "gated-compiled", "relu2-compiled"):
        if name in fraction:
            reached[f"{name} / limit"] = fraction[name]
            compiled = name.endswith("compiled")
            if peer := best if compiled else eager:
                reached[f"{name} / best {'' if compiled else 'eager '}peer"] = speed[name, 1] / peer
        if (name, 1) in speed and (name, 2) in speed:
            reached[f"{name}, two threads / one"] = speed[name, 2] / speed[name, 1]
    return {
        bar: {"target": target, "reached": reached[bar], "met": reached[bar] >= target}
        for bar, target in BARS.items()
        if bar in reached
    }


def _show(result: dict[str, Any]) -> None:
    print(
        f"{'contender':26s} {'threads':>7s} {'tokens/s':>9s} {'of limit':>9s} {'of own products':>16s} {'median s':>9s}"
    )
    for row in sorted(result["contenders"], key=lambda row: (row["threads"], -row["tokens_per_s"])):
        print(
            f"{row['name']:26s} {row['threads']:7d} {row['tokens_per_s']:9.0f} {row['fraction_of_limit']:9.1%} "
            f"{row['fraction_of_best_own_product']:16.1%} {row['median_s']:9.2f}"
        )
    for n, limit in result["limits_flops_per_s"].items():
        large, own = limit["large"] / 1e9, limit["of_the_step"] / 1e9
        print(f"limit, {n} threads: 2048^3 {large:.0f} GFLOP/s in bf16; best of the step's own shapes {own:.0f}")
    for name, bar in result["bars"].items():
        print(f"{'met    ' if bar['met'] else 'NOT met'} {name}: {bar['reached']:.2f} (at least {bar['target']})")


def _peer_python(folder: Path) -> tuple[Path | None, str]:
    """The Python of the peers, or why there is none: this one where it has them, else one with the same PyTorch."""
    if importlib.util.find_spec("transformers"):
        return Path(sys.executable), ""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    wanted = [TRANSFORMERS, f"torch=={torch.__version__.split('+')[0]}", "numpy"]
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *wanted], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return None, f"could not be installed: {done.stderr.strip().splitlines()[-1]}"
    return python, ""


if __name__ == "__main__":
    main()
